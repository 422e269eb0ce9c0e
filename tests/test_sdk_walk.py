"""Every method of the `openai` SDK leads to a row: it is served, or refused with a reason.

Both clients are walked by introspection. Each method is called with made-up arguments over a
transport that writes down what it is asked for and answers nothing, so this list grows with the
SDK: a method of a new version without a row fails here.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import httpx2
import openai
import pytest

from gateway.cli.listing import operations
from gateway.core.catalogue import CATALOGUE
from gateway.core.errors import Code, Refusal
from gateway.core.model import Surface
from gateway.core.operations import Catalogue, Match, check_query
from gateway.core.refused import REFUSED_OPERATIONS, RefusedOperations
from gateway.core.target import Target, parse_target
from gateway.documentation import operations_lines, operations_markdown

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operations.md"
DEPLOYMENT = "gpt-4.1-mini"

# What asks nothing of the server, by name, and why: these are not called.
LOCAL = {
    "beta.agents.environments.files.prepare_directory": "reads a folder, then calls `prepare`",
    "beta.agents.sessions.artifacts.for_result": "wraps a finished turn",
    "webhooks.unwrap": "checks a signature on this machine",
    "webhooks.verify_signature": "checks a signature on this machine",
}

# Arguments that the signature does not tell, because it is overloaded or checked by hand.
ARGUMENTS: Mapping[str, Mapping[str, object]] = {
    "admin.organization.external_keys.create": dict.fromkeys(
        ("external_id", "kms_arn", "name", "role_arn", "type"), "x"
    ),
    "audio.voices.create": {"name": "x", "prompt": "x", "type": "prompt"},
    "beta.agents.automations.create": {
        "name": "x",
        "run_at": "x",
        "target": {},
        "type": "once",
    },
    "beta.agents.environments.files.create": {"data": "x", "path": "/x", "type": "inline"},
    "beta.agents.environments.files.prepare": {"files": {"/workspace/x": __file__}},
    "beta.agents.environments.files.upload": {"path": "/workspace/x"},
    "beta.agents.sessions.stream": {"input": "x"},
    "realtime.connect": {"model": DEPLOYMENT},
    "responses.stream": {"input": "x", "model": DEPLOYMENT},
    "uploads.upload_file_chunked": {"filename": "x", "bytes": 1},
    "vector_stores.file_batches.upload_and_poll": {"files": [b"x"]},
}

# Paths of refused rows that no method leads to, and where they are known from.
NOT_IN_THE_SDK: Mapping[str, str] = {
    "/openai/files/import": "Azure OpenAI authoring specification, 2024-10-21",
    "/openai/assistants/{assistant}/files/*": "Azure OpenAI Assistants, 2024-02-15-preview",
    "/openai/threads/{thread}/messages/{message}/files/*": (
        "Azure OpenAI Assistants, 2024-02-15-preview"
    ),
    "/openai/v1/video/*": "Azure OpenAI video generation (preview)",
    **{
        path: "Azure AI Foundry projects, data plane v1"
        for row in REFUSED_OPERATIONS
        for path in row.paths
        if path.startswith("/api/projects/")
    },
}

# Methods of served operations that are answered 400, because they send `?beta=true`: they ask for
# shapes of OpenAI's that no specification of Azure's has.
BETA_RESPONSES = {
    f"beta.responses.{name}"
    for name in ("cancel", "create", "delete", "input_items.list", "retrieve")
}

catalogue = Catalogue(CATALOGUE)
refused = RefusedOperations(REFUSED_OPERATIONS)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a method of the SDK asked for."""

    client: str
    by: str
    method: str
    raw_target: bytes

    @property
    def target(self) -> Target:
        return parse_target(self.raw_target)

    def __str__(self) -> str:
        return f"{self.client}.{self.by}: {self.method} {self.raw_target.decode()}"


class Recorded(BaseException):
    """Ends a call at the wire. Not an `Exception`: the SDK would take one for a lost connection."""


class Walk(httpx2.BaseTransport):
    """Calls every method of a client and keeps what it asked for."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.methods: set[str] = set()
        self._at = ("", "")

    def handle_request(self, request: httpx2.Request) -> NoReturn:
        self._record(request.method, request.url)

    def connect(self, url: str, **_: object) -> NoReturn:
        """Stand in for a WebSocket library, which asks with a GET."""
        self._record("GET", httpx2.URL(url))

    def _record(self, method: str, url: httpx2.URL) -> NoReturn:
        self.asked.append(Asked(*self._at, method, url.raw_path))
        raise Recorded

    def over(self, client: openai.OpenAI, label: str) -> None:
        for name, method in _methods(client, ""):
            self.methods.add(name)
            if name in LOCAL:
                continue
            self._at = (label, name)
            for arguments in _arguments(name, method):
                with pytest.raises(Recorded):
                    _call(method, arguments)


def _methods(thing: object, prefix: str) -> Iterator[tuple[str, Callable[..., object]]]:
    for name in dir(type(thing)):
        if name.startswith(("_", "with_")):
            continue
        part = getattr(thing, name)
        if _is_resource(part):
            yield from _methods(part, f"{prefix}{name}.")
        elif inspect.ismethod(part) and _is_resource(thing):
            yield f"{prefix}{name}", part


def _is_resource(thing: object) -> bool:
    return type(thing).__module__.startswith("openai.resources.")


def _arguments(name: str, method: Callable[..., object]) -> Iterator[dict[str, object]]:
    """Yield what a method must be called with, and the same with a model if it takes one."""
    parameters = inspect.signature(method).parameters
    needed = [each for each in parameters.values() if each.default is inspect.Parameter.empty]
    given = {each.name: _made_up(each) for each in needed} | dict(ARGUMENTS.get(name, {}))
    given.pop("kwargs", None)
    yield given
    if "model" in parameters and "model" not in given:
        yield given | {"model": DEPLOYMENT}


def _made_up(parameter: inspect.Parameter) -> object:
    name, kind = parameter.name, str(parameter.annotation)
    if name == "model":
        return DEPLOYMENT
    if "FileTypes" in kind or name in {"file", "image", "data", "video"}:
        return b"x"
    if any(word in kind for word in ("Iterable", "List", "Sequence")):
        return []
    if name.endswith("_id") or "str" in kind:
        return f"{name}_x"
    return 1 if "int" in kind else {}


def _call(method: Callable[..., object], arguments: Mapping[str, object]) -> None:
    with warnings.catch_warnings():
        # Half of the SDK is deprecated by OpenAI; that is no news here.
        warnings.simplefilter("ignore", DeprecationWarning)
        answer: Any = method(**arguments)
        # A stream or a socket is opened by entering it.
        answer.__enter__()


@functools.cache
def walked() -> Walk:
    walk = Walk()
    http = openai.DefaultHttpxClient(transport=walk)
    common: dict[str, Any] = {"api_key": "k", "http_client": http, "max_retries": 0}
    socket = types.ModuleType("websockets.sync.client")
    socket.connect = walk.connect  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch, http:
        for name in ("websockets", "websockets.sync"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, socket.__name__, socket)
        azure = openai.AzureOpenAI(
            azure_endpoint="https://gateway.test", api_version="2024-10-21", **common
        )
        walk.over(azure, "AzureOpenAI")
        v1 = openai.OpenAI(base_url="https://gateway.test/openai/v1/", admin_api_key="k", **common)
        walk.over(v1, "OpenAI")
    return walk


def served(asked: Asked) -> Match | None:
    try:
        return catalogue.match(asked.method, asked.target.segments)
    except Refusal:
        return None


def all_served() -> list[tuple[Asked, Match]]:
    pairs = [(asked, served(asked)) for asked in walked().asked]
    return [(asked, match) for asked, match in pairs if match is not None]


def test_the_walk_calls_every_method_but_those_that_ask_nothing_of_a_server() -> None:
    walk = walked()
    clients = {asked.client: set[str]() for asked in walk.asked}
    for asked in walk.asked:
        clients[asked.client].add(asked.by)
    assert clients.keys() == {"AzureOpenAI", "OpenAI"}
    assert all(called == walk.methods - LOCAL.keys() for called in clients.values())
    assert walk.methods >= LOCAL.keys() | ARGUMENTS.keys()
    assert {"chat.completions.create", "beta.threads.runs.create", "files.create"} <= walk.methods


def test_every_request_of_the_sdk_is_served_or_refused_with_a_reason() -> None:
    unknown = [
        str(asked)
        for asked in walked().asked
        if served(asked) is None and refused.find(asked.method, asked.target.segments) is None
    ]
    assert unknown == [], "give each a row in core/catalogue.py or in core/refused.py"


def test_the_sdk_is_told_the_reason() -> None:
    for asked in walked().asked:
        row = refused.find(asked.method, asked.target.segments)
        if row is None:
            continue
        with pytest.raises(Refusal) as caught:
            catalogue.match(asked.method, asked.target.segments)
        assert caught.value.refused.code in (Code.UNKNOWN_OPERATION, Code.METHOD_NOT_ALLOWED)
        assert row.reason in caught.value.refused.message


def test_no_word_of_a_path_is_taken_for_an_id() -> None:
    """`/responses/compact` is no response called "compact", and so for every path there is."""
    odd = [
        str(asked)
        for asked, match in all_served()
        if any(value != DEPLOYMENT and value[-2:] != "_x" for value in match.values.values())
    ]
    assert odd == []


def fault_of_query(asked: Asked, match: Match) -> str | None:
    try:
        check_query(match.operation, asked.target.query)
    except Refusal as refusal:
        return refusal.refused.param
    return None


def test_what_a_served_method_sends_in_its_query_is_listed_but_for_beta() -> None:
    faults = {
        (asked.by, fault)
        for asked, match in all_served()
        if (fault := fault_of_query(asked, match)) is not None
    }
    assert faults == {(name, "beta") for name in BETA_RESPONSES}


def test_every_row_of_the_catalogue_is_reached_by_the_sdk() -> None:
    reached = {(match.operation.method, match.operation.template) for _, match in all_served()}
    rows = {(row.method, row.template) for row in CATALOGUE if row.surface is not Surface.FOUNDRY}
    assert rows == reached


def test_a_refused_path_is_reached_by_the_sdk_or_named_by_a_specification() -> None:
    dead = set()
    for row in REFUSED_OPERATIONS:
        for path in row.paths:
            alone = RefusedOperations([replace(row, paths=(path,))])
            found = (alone.find(asked.method, asked.target.segments) for asked in walked().asked)
            if not any(found):
                dead.add(path)
    assert dead == NOT_IN_THE_SDK.keys()


def test_the_page_of_operations_is_what_the_tables_say() -> None:
    wanted = "run `aoai-gateway operations --markdown > docs/operations.md`"
    assert PAGE.read_text(encoding="utf-8") == operations_markdown(), wanted


def test_every_row_stands_on_the_page_and_in_the_list() -> None:
    page, lines = operations_markdown(), list(operations_lines())
    for row in CATALOGUE:
        assert f"| {row.name} | {row.method} | `{row.template}` | {row.bills.value} |" in page
    for refusal in REFUSED_OPERATIONS:
        assert f"| {refusal.why.value} | {refusal.instead} |" in page
        assert all(f"`{path}`" in page for path in refusal.paths)
    assert len(lines) == len(CATALOGUE) + sum(len(row.paths) for row in REFUSED_OPERATIONS)
    assert all(line.startswith(("served ", "refused ")) for line in lines)


@pytest.mark.parametrize("page", [False, True])
def test_the_command_prints_them(page: bool, capsys: pytest.CaptureFixture[str]) -> None:
    operations(markdown=page)
    printed = capsys.readouterr().out
    assert printed == (
        operations_markdown() if page else "".join(f"{line}\n" for line in operations_lines())
    )
