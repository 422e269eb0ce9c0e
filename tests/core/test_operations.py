"""The catalogue: every row matches itself and only itself, and all else is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.catalogue import CATALOGUE
from gateway.core.errors import Code, Refusal
from gateway.core.operations import OWNED_PLACEHOLDERS, Bills, Catalogue, Operation
from gateway.core.operations import check_query as checked
from gateway.core.target import parse_target

EXAMPLES = {
    "thread": "thread_abc",
    "assistant": "asst_abc",
    "file": "assistant-abc",
    "response": "resp_abc",
    "container": "cntr_abc",
    "run": "run_abc",
    "message": "msg_abc",
    "step": "step_abc",
    "container_file": "cfile_abc",
    "vector_store": "vs_abc",
    "file_batch": "vsfb_abc",
    "conversation": "conv_abc",
    "item": "item_abc",
    "deployment": "gpt-4.1-mini",
    "model": "gpt-4.1",
    "project": "books",
}
catalogue = Catalogue(CATALOGUE)


def rendered(row: Operation, examples: dict[str, str] = EXAMPLES) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: examples[found[1]], row.template)


def refused(method: str, path: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        catalogue.match(method, parse_target(path.encode()).segments)
    return caught.value


def row_of(name: str) -> Operation:
    return next(row for row in CATALOGUE if row.name == name)


def _row_id(row: Operation) -> str:
    return f"{row.method} {row.template}"


def test_no_two_rows_share_a_method_and_a_path() -> None:
    assert len({(row.method, row.template) for row in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("row", CATALOGUE, ids=_row_id)
def test_a_row_matches_its_own_path_and_no_other_row_does(row: Operation) -> None:
    found = catalogue.match(row.method, parse_target(rendered(row).encode()).segments)
    assert found.operation is row
    assert found.values == {name: EXAMPLES[name] for name in re.findall(r"\{(\w+)\}", row.template)}
    alone = [other for other in CATALOGUE if _is_matched(other, row)]
    assert row in alone
    assert {other.template for other in alone if _literals(other) == _literals(row)} == {
        row.template
    }


def _is_matched(other: Operation, row: Operation) -> bool:
    try:
        Catalogue([other]).match(row.method, parse_target(rendered(row).encode()).segments)
    except Refusal:
        return False
    return True


def _literals(row: Operation) -> list[bool]:
    return [part.startswith("{") for part in row.template.split("/")]


@pytest.mark.parametrize("row", CATALOGUE, ids=_row_id)
def test_a_method_that_no_row_has_is_405_and_the_answer_names_those_that_exist(
    row: Operation,
) -> None:
    methods = sorted(other.method for other in CATALOGUE if other.template == row.template)
    for wrong in ({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"} - set(methods)) | {
        row.method.lower()
    }:
        answer = refused(wrong, rendered(row)).refused
        assert answer.code is Code.METHOD_NOT_ALLOWED
        assert answer.headers == (("allow", ", ".join(methods)),)
        assert all(method in answer.message for method in methods)


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_threads_runs_is_no_thread_called_runs(method: str) -> None:
    if method == "POST":
        found = catalogue.match(method, ("openai", "threads", "runs"))
        assert (found.operation.name, found.values) == ("threads.create_and_run", {})
    else:
        assert refused(method, "/openai/threads/runs").refused.headers == (("allow", "POST"),)


UNKNOWN = [
    "/x",
    "/openai",
    "/openai/v1",
    "/openai/v1/threads",
    "/openai/containers",
    "/openai/uploads",
    "/openai/batches",
    "/openai/fine_tuning/jobs",
    "/openai/conversations",
    "/openai/images/generations",
    "/v1/chat/completions",
    "/metrics",
    "/openai/Threads",
    "/OPENAI/threads",
    "/api/projects/p",
    "/api/projects/p/responses",
    "/api/projects/p/containers",
    "/api/projects/p/chat/completions",
    "/api/projects/-p/threads",
    "/api/projects/threads",
    "/openai/threads/thread_1/runs/run_1/steps/step_1/x",
    "/openai/deployments/gpt/completions",
    "/openai/deployments/gpt/files",
    "/openai/deployments/-gpt/embeddings",
    "/openai/threads/thread.1",
    "/openai/threads/a~b",
]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("path", UNKNOWN)
def test_what_has_no_row_is_unknown(path: str, method: str) -> None:
    assert refused(method, path).refused.code is Code.UNKNOWN_OPERATION


def test_an_id_or_a_deployment_that_is_too_long_has_no_row() -> None:
    for path in (f"/openai/threads/{'t' * 129}", f"/openai/deployments/{'d' * 65}/embeddings"):
        assert refused("POST", path).refused.code is Code.UNKNOWN_OPERATION


def test_azure_cannot_be_told_to_fetch_a_file() -> None:
    assert refused("POST", "/openai/files/import").refused.code is Code.METHOD_NOT_ALLOWED


@given(st.lists(st.text("abcdefopqrstuv_1-.", min_size=1, max_size=8), min_size=1, max_size=7))
def test_a_random_path_is_never_matched_by_accident(segments: list[str]) -> None:
    with pytest.raises(Refusal):
        catalogue.match("GET", ("openai", *segments[:1], "x", *segments[1:], "y"))


def test_every_placeholder_is_owned_or_lives_inside_something_owned_or_is_no_object() -> None:
    inside = {"run", "message", "step", "container_file", "item", "file_batch"}
    names_no_object = {"deployment", "model", "project"}
    for row in CATALOGUE:
        names = [
            name for name in re.findall(r"\{(\w+)\}", row.template) if name not in names_no_object
        ]
        assert set(names) <= set(OWNED_PLACEHOLDERS) | inside
        if inside & set(names):
            assert names[0] in OWNED_PLACEHOLDERS


def test_whatever_bills_or_creates_is_written_down_before_it_is_sent() -> None:
    for row in CATALOGUE:
        assert row.is_journalled is (row.bills is not Bills.NOTHING or row.creates is not None)
    assert row_of("responses.create").is_journalled
    assert row_of("files.create").is_journalled
    assert not row_of("runs.get").is_journalled


# queries


def _pairs(query: str) -> tuple[tuple[str, str], ...]:
    return parse_target(f"/openai/x?{query}".encode()).query


@pytest.mark.parametrize(
    ("name", "query", "kept", "version"),
    [
        ("runs.get", "api-version=v1", "", "v1"),
        ("runs.get", "", "", None),
        ("runs.get", "api-version=", "", ""),
        ("files.list", "purpose=assistants&api-version=v1&limit=2", "purpose limit", "v1"),
        (
            "messages.list",
            "run_id=run_1&order=asc&after=a&before=b",
            "run_id order after before",
            None,
        ),
        ("runs.create", "include[]=a&include[]=b", "include[] include[]", None),
        ("steps.get", "include%5B%5D=a&api-version=v1&include[]=b", "include[] include[]", "v1"),
        ("responses.get", "include=a&include=b&include[]=c", "include include include[]", None),
    ],
)
def test_listed_parameters_go_on_in_their_order_and_the_version_is_taken_out(
    name: str, query: str, kept: str, version: str | None
) -> None:
    pairs, asked = checked(row_of(name), _pairs(query))
    assert [key for key, _ in pairs] == kept.split()
    assert asked == version


@pytest.mark.parametrize(
    ("name", "query", "rule"),
    [
        ("runs.get", "limit=2", "query-not-listed"),
        ("runs.get", "API-Version=v1", "query-not-listed"),
        ("runs.get", "api_version=v1", "query-not-listed"),
        ("runs.get", "api-version[]=v1", "query-not-listed"),
        ("runs.get", "api-key=k", "query-not-listed"),
        ("runs.list", "include[]=a", "query-not-listed"),
        ("files.get", "purpose=a", "query-not-listed"),
        ("runs.get", "api-version=v1&api-version=v1", "query-repeated"),
        ("runs.get", "api-version=v1&api%2dversion=v2", "query-repeated"),
        ("runs.list", "limit=1&limit=2", "query-repeated"),
        ("messages.list", "after=a&after=b", "query-repeated"),
    ],
)
def test_a_parameter_that_is_not_listed_or_comes_twice_is_refused(
    name: str, query: str, rule: str
) -> None:
    with pytest.raises(Refusal) as caught:
        checked(row_of(name), _pairs(query))
    assert (caught.value.refused.code, caught.value.refused.rule) == (Code.MALFORMED_REQUEST, rule)


def test_the_refusal_names_what_is_known_and_quotes_no_value() -> None:
    with pytest.raises(Refusal) as caught:
        checked(row_of("files.list"), (("api-key", "secret"),))
    message = caught.value.refused.message
    assert "`purpose`" in message
    assert "secret" not in message


def _names(rows: Iterable[Operation]) -> set[str]:
    return {row.name for row in rows}


def test_what_we_answer_ourselves_is_never_billed_nor_written_down() -> None:
    ours = [row for row in CATALOGUE if row.is_ours]
    assert {row.name for row in ours} == {"models.list", "models.get"}
    assert not any(row.is_journalled for row in ours)


def test_whatever_makes_a_vector_store_grow_is_a_feature_that_must_be_permitted() -> None:
    writes = {
        row.name for row in CATALOGUE if "/vector_stores" in row.template and row.method == "POST"
    }
    free = {"vector_stores.file_batches.cancel", "vector_stores.files.modify"}
    assert {row.name for row in CATALOGUE if row.feature is not None} == writes - free


def test_a_name_means_the_same_operation_on_every_surface() -> None:
    for name in _names(CATALOGUE):
        rows = [row for row in CATALOGUE if row.name == name]
        assert len({(row.method, row.body, row.reply, row.bills, row.query) for row in rows}) == 1
        assert len({row.surface for row in rows}) == len(rows)
