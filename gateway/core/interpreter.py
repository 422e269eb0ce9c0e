"""What a request says about the code interpreter, before it is sent.

On Assistants the tool stands in ``tools`` of the run, else of the assistant; its session hangs on
the thread. On Responses the tool names a container, or says ``auto`` and gets one that may be
billed without ever being shown. A container may come with a network, more memory or skills: each
is another price or another door, so only the plain one passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.core.errors import Code, Refusal
from gateway.core.metering import names_interpreter
from gateway.core.model import SECOND, Micros
from gateway.core.sessions import Call, SessionTerms, open_at

RUN_LASTS_AT_MOST: Micros = 600 * SECOND

# Source: Azure OpenAI, "Responses API", code interpreter (2026): a container that is not used for
# 20 minutes is gone.
_CONTAINER_IDLE: Micros = 1200 * SECOND

CREATION = "0-create"
"""Names a container's creation among its calls. It sorts before the ids of those that came in the
same second, so that the creation is what opened the session."""


@dataclass(frozen=True, slots=True)
class Containers:
    """The containers a Responses call may use: `named` by id, and `automatic` ones."""

    named: tuple[str, ...]
    automatic: int


def effective_tools(body: Mapping[str, object], assistant: Mapping[str, object] | None) -> object:
    """Return the tools a run will have: its own if it says any, else its assistant's."""
    own = body.get("tools")
    if own is not None or assistant is None:
        return own
    return assistant.get("tools")


def run_may_call(tools: object) -> bool:
    """Return whether a run with these tools could call the interpreter."""
    return names_interpreter(tools)


def containers_of(body: Mapping[str, object]) -> Containers:
    """Return the containers a Responses call asks for.

    Raises:
        Refusal: a container is asked for with more than its plain form.
    """
    named: list[str] = []
    automatic = 0
    for index, tool in _interpreter_tools(body.get("tools")):
        container = tool.get("container")
        match container:
            case str():
                named.append(container)
            case Mapping():
                _check_plain(container, f"tools[{index}].container")
                automatic += 1
            case None:
                automatic += 1
            case _:
                raise Refusal(
                    Code.MALFORMED_REQUEST,
                    "`container` must be an id or an object",
                    param=f"tools[{index}].container",
                )
    return Containers(tuple(named), automatic)


def check_container(body: Mapping[str, object]) -> None:
    """Check the body of a container's creation.

    Raises:
        Refusal: it asks for more than the plain form.
    """
    _check_plain(body, "")


def is_alive(calls: tuple[Call, ...], at: Micros) -> bool:
    """Return whether a container with these calls is certain to be there still.

    One that a caller made may have been given a shorter life, so nothing is certain of it.
    """
    if any(call.key == CREATION for call in calls):
        return False
    return any(call.at > at - _CONTAINER_IDLE for call in calls)


def opens_session(calls: tuple[Call, ...], terms: SessionTerms, at: Micros) -> bool:
    """Return whether work that starts at `at` could open a session in a scope with these calls.

    It could not if the open session outlasts the ten minutes a run may take. One that ends with the
    tenth minute does not: a call at its very end opens the next.
    """
    window = open_at(calls, terms, at)
    return window is None or window.end <= at + RUN_LASTS_AT_MOST


def _interpreter_tools(tools: object) -> Iterator[tuple[int, Mapping[str, object]]]:
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(tool, Mapping) and tool.get("type") == "code_interpreter":
            yield index, tool


def _check_plain(container: Mapping[str, object], where: str) -> None:
    prefix = f"{where}." if where else ""
    if container.get("memory_limit") not in (None, "1g"):
        raise _not_plain(f"{prefix}memory_limit", "more memory is billed at another price")
    if container.get("skills"):
        raise _not_plain(f"{prefix}skills", "skills bring in files past the upload check")
    network = container.get("network_policy")
    if network is not None and (
        not isinstance(network, Mapping) or network.get("type") != "disabled"
    ):
        raise _not_plain(f"{prefix}network_policy", "a network lets files in and out unseen")


def _not_plain(param: str, why: str) -> Refusal:
    return Refusal(
        Code.NOT_PERMITTED,
        f"`{param}` is not permitted (rule `plain-container`): {why}; leave it out",
        param=param,
        rule="plain-container",
    )
