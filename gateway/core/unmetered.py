"""What Azure would bill and no meter here would see: refused until there is one.

Some features are charged by the gigabyte and day (the files in a vector store), by the search, or
at another price (a service tier); some let Azure use another resource altogether. A request that
turns one of them on would cost money that no ledger line tells of. Some of them an organisation may
permit all the same, in `models.toml`; every use is then counted, so that it is known to be unknown.

Source: Azure OpenAI, "File search tool" (vector stores are charged per GB and day), "Azure OpenAI
On Your Data", "Web search" (2025).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from gateway.core.errors import Code, Refusal

FILE_SEARCH = "file_search"
"""Vector stores and the search in them: charged by the gigabyte and day, and by the search."""

FEATURES = frozenset({FILE_SEARCH})
"""What an organisation may decide to allow although nobody here meters it."""

_FEATURES = ("data_sources", "web_search_options", "service_tier", "audio", "enhancements")
_ORDINARY_TIERS = ("auto", "default")


def check_feature(feature: str | None, permitted: Collection[str]) -> None:
    """Refuse an operation that costs what nobody here can meter, unless that is permitted.

    Raises:
        Refusal: it does, and it is not.
    """
    if feature is not None and feature not in permitted:
        raise Refusal(
            Code.NOT_PERMITTED,
            f"`{feature}` is billed where this gateway cannot see it (rule `unmetered-feature`); "
            f'whoever owns `models.toml` can permit it with `unmetered = ["{feature}"]`',
            param="path",
            rule="unmetered-feature",
        )


def check_unmetered(body: Mapping[str, object], permitted: Collection[str]) -> frozenset[str]:
    """Return the permitted features a body turns on that nobody here can meter.

    Raises:
        Refusal: it turns on another one; the message names where.
    """
    if body.get("modalities") not in (None, ["text"]):
        raise _refused("modalities")
    for name in _FEATURES:
        if body.get(name) and body[name] not in _ORDINARY_TIERS:
            raise _refused(name)
    places = list(_searches(body))
    if places and FILE_SEARCH not in permitted:
        raise _refused(places[0])
    return frozenset({FILE_SEARCH}) if places else frozenset()


def _searches(body: Mapping[str, object]) -> Iterator[str]:
    """Yield every place that makes or searches a vector store."""
    for where, part in _parts(body):
        resources = part.get("tool_resources")
        search = resources.get("file_search") if isinstance(resources, Mapping) else None
        if isinstance(search, Mapping) and search.get("vector_stores"):
            yield f"{where}tool_resources.file_search.vector_stores"
        for index, tools in _attached_tools(part):
            if any(
                isinstance(tool, Mapping) and tool.get("type") == "file_search" for tool in tools
            ):
                yield f"{where}attachments[{index}].tools"
    given = body.get("tools")
    for index, tool in enumerate(given if isinstance(given, list) else ()):
        if isinstance(tool, Mapping) and tool.get("vector_store_ids"):
            yield f"tools[{index}].vector_store_ids"


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
