"""Every method of `azure-ai-agents` leads to a row of the projects surface, or is refused.

The client is walked by introspection, as the `openai` SDK is: each method is called with made-up
arguments over a transport that writes down what it is asked for and answers nothing.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import pytest
from azure.ai.agents import AgentsClient
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import HttpTransport

from gateway.core.catalogue import CATALOGUE
from gateway.core.errors import Refusal
from gateway.core.model import Surface
from gateway.core.operations import Catalogue, Match, check_query
from gateway.core.refused import REFUSED_OPERATIONS, RefusedOperations
from gateway.core.target import parse_target

ENDPOINT = "https://gateway.test/api/projects/books"
FAR_S = 4_000_000_000

# What asks nothing of the server by itself, by name, and why.
LOCAL = {
    "close": "closes the client",
    "enable_auto_function_calls": "remembers functions on this machine",
    "send_request": "sends whatever it is given",
}

# Arguments that the signature does not tell, because it is overloaded.
ARGUMENTS: Mapping[str, Mapping[str, object]] = {
    "create_agent": {"model": "gpt-4o"},
    "create_thread_and_run": {"agent_id": "agent_id_x"},
    "create_thread_and_process_run": {"agent_id": "agent_id_x"},
    "files.save": {"file_id": "file_id_x", "file_name": "x"},
    "files.upload": {"file": ("x.txt", b"x"), "purpose": "assistants"},
    "files.upload_and_poll": {"file": ("x.txt", b"x"), "purpose": "assistants"},
    "messages.create": {"thread_id": "thread_id_x", "role": "user", "content": "x"},
    "runs.create": {"thread_id": "thread_id_x", "agent_id": "agent_id_x"},
    "runs.stream": {"thread_id": "thread_id_x", "agent_id": "agent_id_x"},
    "runs.submit_tool_outputs": {
        "thread_id": "thread_id_x",
        "run_id": "run_id_x",
        "tool_outputs": [],
    },
    "runs.submit_tool_outputs_stream": {
        "thread_id": "thread_id_x",
        "run_id": "run_id_x",
        "tool_outputs": [],
        "event_handler": object(),
    },
    "vector_store_files.create": {"vector_store_id": "vs_x", "file_id": "file_id_x"},
    "vector_store_files.create_and_poll": {"vector_store_id": "vs_x", "file_id": "file_id_x"},
}

catalogue = Catalogue(CATALOGUE)
refused = RefusedOperations(REFUSED_OPERATIONS)


class Recorded(BaseException):
    """Ends a call at the wire. Not an `Exception`: the SDK would retry after one."""


class Recorder(HttpTransport[Any, Any]):
    """Keeps what it is asked for, and answers nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []

    def send(self, request: Any, **_: Any) -> NoReturn:
        """Write down the method and the raw target."""
        target = request.url.removeprefix("https://gateway.test").encode("ascii")
        self.asked.append((request.method, target))
        raise Recorded

    def open(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


class Identity:
    """A credential that always has a token."""

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        """Return it."""
        return AccessToken("token", FAR_S)


def _methods(thing: object, prefix: str) -> Iterator[tuple[str, Callable[..., object]]]:
    for name in sorted(vars(thing).keys() | set(dir(type(thing)))):
        if name.startswith("_"):
            continue
        part = getattr(thing, name)
        if type(part).__name__.endswith("Operations"):
            yield from _methods(part, f"{prefix}{name}.")
        elif inspect.ismethod(part):
            yield f"{prefix}{name}", part


def _arguments(name: str, method: Callable[..., object]) -> Mapping[str, object]:
    if name in ARGUMENTS:
        return ARGUMENTS[name]
    parameters = inspect.signature(method).parameters.values()
    return {
        each.name: f"{each.name}_x"
        for each in parameters
        if each.default is inspect.Parameter.empty and each.kind is not each.VAR_KEYWORD
    }


def _call(method: Callable[..., Any], arguments: Mapping[str, object]) -> None:
    answer = method(**arguments)
    # A list asks when it is read.
    next(iter(answer))


@functools.cache
def walked() -> Mapping[str, tuple[tuple[str, bytes], ...]]:
    """Return what each method of the client asked for."""
    recorder = Recorder()
    found: dict[str, tuple[tuple[str, bytes], ...]] = {}
    client = AgentsClient(ENDPOINT, Identity(), transport=recorder, retry_total=0)
    for name, method in _methods(client, ""):
        if name in LOCAL:
            continue
        recorder.asked.clear()
        with pytest.raises(Recorded):
            _call(method, _arguments(name, method))
        found[name] = tuple(recorder.asked)
    return found


def asked() -> list[tuple[str, str, bytes]]:
    return [(by, method, target) for by, each in walked().items() for method, target in each]


def served(method: str, target: bytes) -> Match | None:
    try:
        return catalogue.match(method, parse_target(target).segments)
    except Refusal:
        return None


def test_every_method_asks_for_something() -> None:
    assert len(walked()) > 40
    assert all(each for each in walked().values())
    assert {"create_agent", "threads.create", "runs.stream", "files.upload"} <= walked().keys()


def test_every_request_of_the_agents_sdk_is_served_or_refused_with_a_reason() -> None:
    unknown = [
        f"{by}: {method} {target.decode()}"
        for by, method, target in asked()
        if served(method, target) is None
        and refused.find(method, parse_target(target).segments) is None
    ]
    assert unknown == [], "give each a row in core/catalogue.py or in core/refused.py"


def test_every_row_of_the_projects_surface_is_reached_by_the_agents_sdk() -> None:
    reached = {
        match.operation.name
        for _, method, target in asked()
        if (match := served(method, target)) is not None
    }
    assert reached == {row.name for row in CATALOGUE if row.surface is Surface.FOUNDRY}


def test_what_the_agents_sdk_sends_in_its_query_is_listed() -> None:
    for _, method, target in asked():
        match = served(method, target)
        if match is not None:
            _, version = check_query(match.operation, parse_target(target).query)
            assert version == "v1"
            assert match.values["project"] == "books"
