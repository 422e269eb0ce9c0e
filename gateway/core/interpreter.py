"""What a request says about the code interpreter, before it is sent.

On Assistants the tool stands in ``tools`` of the run, else of the assistant; its session hangs on
the thread. On Responses the tool names a container, or says ``auto`` and gets one that may be
billed without ever being shown. A container may come with a network, more memory or skills. Each
is another price or another door, so only the plain one passes, and more memory where the terms have
a price for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from gateway.core.errors import Code, Refusal
from gateway.core.metering import names_interpreter
from gateway.core.model import SECOND, Micros, NanoUsd
from gateway.core.sessions import CREATION, Call, memory_of, open_at
from gateway.core.terms import (
    MEMORY_TIERS,
    PLAIN_MEMORY,
    Schedule,
    amount_max,
    in_force_within,
    price_id,
)

RUN_LASTS_AT_MOST: Micros = 600 * SECOND

# Source: Azure OpenAI, "Responses API", code interpreter (2026): a container that is not used for
# 20 minutes is gone.
_CONTAINER_IDLE: Micros = 1200 * SECOND


@dataclass(frozen=True, slots=True)
class Containers:
    """The containers a Responses call may use: `named` by id, and `automatic` ones.

    `memory` is the most that an automatic one asks for, None for the plain gigabyte.
    """

    named: tuple[str, ...]
    automatic: int
    memory: str | None = None


@dataclass(frozen=True, slots=True)
class SessionBound:
    """The most that work may add in one scope: how many sessions it opens, and what it costs.

    Work in a session that stays open opens none, and yet costs something where minutes are charged.
    """

    sessions: int
    nano_usd: NanoUsd
    price_id: str


def effective_tools(body: Mapping[str, object], assistant: Mapping[str, object] | None) -> object:
    """Return the tools a run will have: its own if it says any, else its assistant's."""
    own = body.get("tools")
    if own is not None or assistant is None:
        return own
    return assistant.get("tools")


def run_may_call(tools: object) -> bool:
    """Return whether a run with these tools could call the interpreter."""
    return names_interpreter(tools)


def containers_of(body: Mapping[str, object], tiers: Collection[str] = ()) -> Containers:
    """Return the containers a Responses call asks for; `tiers` are the memory tiers with a price.

    Raises:
        Refusal: a container is asked for with more than its plain form.
    """
    named: list[str] = []
    asked: list[str] = []
    automatic = 0
    for index, tool in _interpreter_tools(body.get("tools")):
        container = tool.get("container")
        match container:
            case str():
                named.append(container)
            case Mapping():
                memory = _check_plain(container, f"tools[{index}].container", tiers)
                asked += [memory] if memory is not None else []
                automatic += 1
            case None:
                automatic += 1
            case _:
                raise Refusal(
                    Code.MALFORMED_REQUEST,
                    "`container` must be an id or an object",
                    param=f"tools[{index}].container",
                )
    return Containers(tuple(named), automatic, max(asked, key=MEMORY_TIERS.index, default=None))


def check_container(body: Mapping[str, object], tiers: Collection[str] = ()) -> str | None:
    """Check the body of a container's creation; return its memory tier, None for the plain one.

    Raises:
        Refusal: it asks for more than the plain form.
    """
    return _check_plain(body, "", tiers)


def is_alive(calls: tuple[Call, ...], at: Micros) -> bool:
    """Return whether a container with these calls is certain to be there still.

    One that a caller made may have been given a shorter life, so nothing is certain of it.
    """
    if any(call.key == CREATION for call in calls):
        return False
    return any(call.at > at - _CONTAINER_IDLE for call in calls)


def opens_session(calls: tuple[Call, ...], schedule: Schedule, at: Micros) -> bool:
    """Return whether work that starts at `at` could open a session in a scope with these calls.

    It could not if the open session outlasts the ten minutes a run may take. One that ends with the
    tenth minute does not: a call at its very end opens the next.
    """
    return bound_session(calls, schedule, at).sessions > 0


def bound_session(calls: tuple[Call, ...], schedule: Schedule, at: Micros) -> SessionBound:
    """Return the most that work which starts at `at` may add in a scope with these calls.

    What is open may grow by the minute up to its whole active time, and what opens meanwhile has
    the dearest terms that come into force before the work is over.
    """
    window, memory = open_at(calls, schedule, at), memory_of(calls)
    growth = 0 if window is None else amount_max(window.terms, memory) - window.nano_usd
    if window is not None and window.end > at + RUN_LASTS_AT_MOST:
        return SessionBound(0, growth, window.price_id)
    bound = bound_new(schedule, at, memory)
    return SessionBound(1, growth + bound.nano_usd, bound.price_id)


def bound_new(schedule: Schedule, at: Micros, memory: str | None = None) -> SessionBound:
    """Return the most that one session can cost that work which starts at `at` opens anew."""
    found = in_force_within(schedule, at, at + RUN_LASTS_AT_MOST)
    dearest = max(found, key=lambda terms: amount_max(terms, memory))
    return SessionBound(1, amount_max(dearest, memory), price_id(dearest, memory))


def _interpreter_tools(tools: object) -> Iterator[tuple[int, Mapping[str, object]]]:
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(tool, Mapping) and tool.get("type") == "code_interpreter":
            yield index, tool


def _check_plain(container: Mapping[str, object], where: str, tiers: Collection[str]) -> str | None:
    """Return the memory tier a container asks for, None for the plain gigabyte."""
    prefix = f"{where}." if where else ""
    memory = container.get("memory_limit")
    if memory is not None and memory != PLAIN_MEMORY:
        if not isinstance(memory, str) or memory not in MEMORY_TIERS:
            raise _not_plain(f"{prefix}memory_limit", "more memory is billed at another price")
        if memory not in tiers:
            why = f"the session terms in force have no price for `{memory}`"
            raise _not_plain(f"{prefix}memory_limit", why)
    if container.get("skills"):
        raise _not_plain(f"{prefix}skills", "skills bring in files past the upload check")
    network = container.get("network_policy")
    if network is not None and (
        not isinstance(network, Mapping) or network.get("type") != "disabled"
    ):
        raise _not_plain(f"{prefix}network_policy", "a network lets files in and out unseen")
    return memory if isinstance(memory, str) and memory != PLAIN_MEMORY else None


def _not_plain(param: str, why: str) -> Refusal:
    return Refusal(
        Code.NOT_PERMITTED,
        f"`{param}` is not permitted (rule `plain-container`): {why}; leave it out",
        param=param,
        rule="plain-container",
    )
