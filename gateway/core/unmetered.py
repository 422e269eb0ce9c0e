"""What Azure would bill and no meter here would see: refused until there is one.

Some features are charged by the gigabyte and day (the files in a vector store), by the search, or
at another price (a service tier); some let Azure use another resource altogether. A request that
turns one of them on would cost money that no ledger line tells of.

Source: Azure OpenAI, "File search tool" (vector stores are charged per GB and day), "Azure OpenAI
On Your Data", "Web search" (2025).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.core.errors import Code, Refusal

_FEATURES = ("data_sources", "web_search_options", "service_tier")
_ORDINARY_TIERS = ("auto", "default")


def check_unmetered(body: Mapping[str, object]) -> None:
    """Refuse a body that turns on what nobody here can meter.

    Raises:
        Refusal: it does; the message names where.
    """
    for name in _FEATURES:
        if body.get(name) and body[name] not in _ORDINARY_TIERS:
            raise _refused(name)
    for where, part in _parts(body):
        resources = part.get("tool_resources")
        search = resources.get("file_search") if isinstance(resources, Mapping) else None
        if isinstance(search, Mapping) and search.get("vector_stores"):
            raise _refused(f"{where}tool_resources.file_search.vector_stores")
        for index, tools in _attached_tools(part):
            if any(
                isinstance(tool, Mapping) and tool.get("type") == "file_search" for tool in tools
            ):
                raise _refused(f"{where}attachments[{index}].tools")


def _parts(body: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield every object that may carry tool resources or attachments, and where it stands."""
    yield "", body
    thread = body.get("thread")
    holders = [("", body)]
    if isinstance(thread, Mapping):
        yield "thread.", thread
        holders.append(("thread.", thread))
    for where, holder in holders:
        for name in ("messages", "additional_messages"):
            messages = holder.get(name)
            for index, message in enumerate(messages if isinstance(messages, list) else ()):
                if isinstance(message, Mapping):
                    yield f"{where}{name}[{index}].", message


def _attached_tools(part: Mapping[str, object]) -> Iterator[tuple[int, list[object]]]:
    attachments = part.get("attachments")
    for index, attachment in enumerate(attachments if isinstance(attachments, list) else ()):
        tools = attachment.get("tools") if isinstance(attachment, Mapping) else None
        if isinstance(tools, list):
            yield index, tools


def _refused(param: str) -> Refusal:
    return Refusal(
        Code.NOT_PERMITTED,
        f"`{param}` is billed where this gateway cannot see it (rule `unmetered-feature`); "
        "leave it out",
        param=param,
        rule="unmetered-feature",
    )
