"""The refused operations: each is found under its own path, and none of them is served."""

from __future__ import annotations

import re

import pytest

from gateway.core.catalogue import CATALOGUE
from gateway.core.errors import Code, Refusal
from gateway.core.operations import Catalogue
from gateway.core.refused import REFUSED_OPERATIONS, RefusedOperation, RefusedOperations, Why
from gateway.core.target import parse_target

refused = RefusedOperations(REFUSED_OPERATIONS)
PATHS = [(row, path) for row in REFUSED_OPERATIONS for path in row.paths]
NO_ROW = "operation-not-catalogued"


def segments(path: str) -> tuple[str, ...]:
    """Return the segments of a template's path, a made-up id for each placeholder."""
    plain = re.sub(r"\{\w+\}", "id_1", path.removesuffix("/*"))
    return parse_target(plain.encode()).segments


def a_method(row: RefusedOperation) -> str:
    return min(row.methods, default="PUT")


def answered(method: str, path: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        Catalogue(CATALOGUE).match(method, parse_target(path.encode()).segments)
    return caught.value


@pytest.mark.parametrize(("row", "path"), PATHS, ids=[path for _, path in PATHS])
def test_no_other_row_stands_before_it(row: RefusedOperation, path: str) -> None:
    assert refused.find(a_method(row), segments(path)) is row


@pytest.mark.parametrize(("row", "path"), PATHS, ids=[path for _, path in PATHS])
def test_a_star_covers_what_is_below_and_nothing_else_does(
    row: RefusedOperation, path: str
) -> None:
    alone = RefusedOperations([row])
    below = (*segments(path), "deeper", "still")
    assert (alone.find(a_method(row), below) is row) is path.endswith("/*")
    beside = (*segments(path)[:-1], segments(path)[-1] + "x")
    literal = not path.removesuffix("/*").endswith("}")
    assert (alone.find(a_method(row), beside) is None) is literal


def test_nothing_is_both_served_and_refused() -> None:
    both = [
        f"{row.method} {row.template}"
        for row in CATALOGUE
        if refused.find(row.method, segments(row.template)) is not None
    ]
    assert both == []


def test_a_row_with_methods_covers_no_other_method() -> None:
    assert refused.find("POST", ("openai", "v1", "responses", "compact")) is not None
    assert refused.find("GET", ("openai", "v1", "responses", "compact")) is None


@pytest.mark.parametrize("path", ["/x", "/openai", "/openai/v1", "/openai/nosuch", "/v1/audio"])
def test_what_nobody_thought_of_has_no_row(path: str) -> None:
    assert refused.find("GET", segments(path)) is None


def test_the_v1_surface_is_no_dated_resource_called_v1() -> None:
    dated = RefusedOperation(("/openai/v1/*",), "all", Why.NOT_YET, "wait")
    assert RefusedOperations([dated]).find("GET", ("openai", "v1", "audio")) is None


@pytest.mark.parametrize("row", REFUSED_OPERATIONS, ids=lambda row: row.what)
def test_a_reason_is_one_sentence_in_our_tone(row: RefusedOperation) -> None:
    assert row.reason == f"{row.what}: {row.why.value}; {row.instead}"
    assert not row.reason.endswith(".")
    assert "\n" not in row.reason
    assert "|" not in row.reason
    assert all((row.what, row.why.value, row.instead))


def test_every_way_of_being_outside_is_somebodys() -> None:
    assert {row.why for row in REFUSED_OPERATIONS} == set(Why)


def test_a_caller_is_told_why_and_what_to_do_instead() -> None:
    refusal = answered("POST", "/openai/v1/uploads/upload_1/parts").refused
    assert (refusal.code, refusal.param, refusal.rule) == (Code.UNKNOWN_OPERATION, "path", NO_ROW)
    assert refusal.message == (
        "not served: uploads in parts: it brings in bytes that the upload policy would not see; "
        f"upload the file whole with `POST /files` (rule `{NO_ROW}`)"
    )


def test_a_path_that_is_served_with_another_method_stays_405_and_says_why() -> None:
    refusal = answered("DELETE", "/openai/v1/models/gpt-4o").refused
    assert refusal.code is Code.METHOD_NOT_ALLOWED
    assert refusal.headers == (("allow", "GET"),)
    assert refusal.message.startswith(
        "this path takes GET; DELETE is not served: deleting a model: "
    )


def test_what_has_no_reason_is_refused_as_before() -> None:
    unknown = answered("POST", "/openai/nosuch").refused
    assert (unknown.code, unknown.rule) == (Code.UNKNOWN_OPERATION, NO_ROW)
    assert unknown.message.startswith("this gateway does not know the operation")
    assert answered("PUT", "/openai/files").refused.message == "this path takes GET, POST"


def test_no_id_of_a_caller_comes_back_in_a_message() -> None:
    assert "secret_id" not in answered("GET", "/openai/batches/secret_id").refused.message
