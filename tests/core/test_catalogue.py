"""What the catalogue says of its rows, as a whole."""

from __future__ import annotations

import pytest

from gateway.core.catalogue import CATALOGUE
from gateway.core.metering import CHAT_WORK, EVERYTHING, RUN_WORK
from gateway.core.model import ObjectKind
from gateway.core.operations import Bills, Operation, Reply


def row_id(row: Operation) -> str:
    return f"{row.surface} {row.name}"


@pytest.mark.parametrize("row", CATALOGUE, ids=row_id)
def test_nothing_is_heard_that_no_meter_knows(row: Operation) -> None:
    assert row.hears <= EVERYTHING


@pytest.mark.parametrize(
    "row", [row for row in CATALOGUE if row.bills is not Bills.NOTHING], ids=row_id
)
def test_what_is_billed_is_heard(row: Operation) -> None:
    wanted = {
        Bills.CHAT: CHAT_WORK,
        Bills.EMBEDDINGS: frozenset({"embeddings"}),
        Bills.RUN: RUN_WORK,
        Bills.RESPONSE: frozenset({"response"}),
        Bills.CONTAINER: frozenset({"container"}),
    }
    assert row.hears == wanted[row.bills]


@pytest.mark.parametrize("row", [row for row in CATALOGUE if row.creates is not None], ids=row_id)
def test_what_is_made_is_heard_or_it_would_belong_to_nobody(row: Operation) -> None:
    words = {ObjectKind.RESPONSE: "response", ObjectKind.THREAD: "thread"}
    assert row.creates is not None
    assert words.get(row.creates, row.creates.value) in row.hears


@pytest.mark.parametrize(
    "name", ["responses.input_items", "files.content", "containers.files.list"]
)
def test_the_words_of_callers_are_never_heard(name: str) -> None:
    rows = [row for row in CATALOGUE if row.name == name]
    assert rows
    assert all(not row.hears for row in rows)


@pytest.mark.parametrize("row", [row for row in CATALOGUE if row.lists], ids=row_id)
def test_a_list_over_the_resource_is_answered_from_the_registry(row: Operation) -> None:
    assert (row.method, row.reply, row.hears) == ("GET", Reply.JSON, frozenset())
