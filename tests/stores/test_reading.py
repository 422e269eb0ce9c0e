"""Reports are read beside a running server and never get in its way."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict
from pathlib import Path

import pytest

from gateway.core.model import Confidence
from gateway.ports import Decision, KeyRecord, StoreUnavailable
from gateway.stores import ReadOnlyStore, SpendRow, SqliteStore, open_reader
from tests.stores.making import MINUTE, NOON, SESSION, call, charge, claim, intent, news, opened

DAY = 24 * 60 * MINUTE
KEY = KeyRecord(public="pub1", digest=b"\x00\xff", team="risk", created_at=NOON)


async def test_a_reader_sees_what_the_server_has_committed(store: SqliteStore, path: Path) -> None:
    with open_reader(path) as reader:
        assert reader.unsettled() == (0, None)
        await store.reserve(intent(), [claim()])
        await store.book(news(call(0)))
        await store.add_key(KEY)
        assert reader.unsettled() == (1, NOON)
        assert reader.keys() == [KEY]
        assert list(reader.sessions(team="risk")) == list(await store.sessions())
        assert list(reader.ledger()) == [row async for row in store.ledger()]
        assert reader.balances("team:risk", NOON) == await store.balances("team:risk", NOON)


async def test_a_reader_does_not_keep_the_server_from_writing_or_closing(path: Path) -> None:
    store = await opened(path)
    await store.book(news(call(0)))
    with open_reader(path) as reader:
        lines = reader.ledger()
        assert next(lines).number == 1
        await store.book(news(call(60)))
        await store.close()
        assert path.with_name("ledger.db-wal").stat().st_size == 0
        assert [row.number for row in reader.ledger()] == [1, 2]


async def test_a_reader_works_when_no_server_runs(path: Path) -> None:
    store = await opened(path)
    await store.add_key(KEY)
    await store.close()
    with open_reader(path) as reader:
        assert reader.keys() == [KEY]


async def test_a_reader_cannot_write(store: SqliteStore, path: Path) -> None:
    with open_reader(path) as reader, pytest.raises(StoreUnavailable, match="readonly"):
        reader._read(lambda connection: connection.execute("DELETE FROM keys"))
    assert await store.keys() == []


async def test_a_closed_reader_is_unavailable(store: SqliteStore, path: Path) -> None:
    reader = open_reader(path)
    reader.close()
    with pytest.raises(StoreUnavailable):
        reader.keys()
    assert await store.keys() == []


def test_a_file_that_is_not_there_is_not_made_by_reading(path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"ledger\.db"):
        open_reader(path)
    assert not path.exists()


async def spent(store: SqliteStore, path: Path) -> ReadOnlyStore:
    guess = charge(40, fact="f3", team="sales", at=NOON + DAY, confidence=Confidence.ESTIMATED)
    was_guess = charge(90, fact="f2", quantity=9, confidence=Confidence.ESTIMATED)
    read_later = charge(70, fact="f2", quantity=7, confidence=Confidence.RECOVERED)
    await store.book(news(call(0), charges=[charge(5, fact="f1", quantity=1), was_guess]))
    await store.book(news(charges=[read_later, guess]))
    return open_reader(path)


async def test_spend_is_told_by_team(store: SqliteStore, path: Path) -> None:
    with await spent(store, path) as reader:
        assert reader.spend("team", since=NOON - DAY, until=NOON + 2 * DAY) == [
            SpendRow("risk", "code_interpreter_session", 1, SESSION, 0),
            SpendRow("risk", "input_tokens", 8, 75, 0),
            SpendRow("sales", "input_tokens", 100, 40, 40),
        ]


async def test_spend_is_told_by_day_and_by_meter(store: SqliteStore, path: Path) -> None:
    with await spent(store, path) as reader:
        by_day = reader.spend("day", since=NOON, until=NOON + 2 * DAY)
        assert [(row.group, row.nano_usd) for row in by_day] == [
            ("2026-11-05", SESSION),
            ("2026-11-05", 75),
            ("2026-11-06", 40),
        ]
        by_meter = reader.spend("meter", since=NOON, until=NOON + 2 * DAY)
        assert [(row.group, row.nano_usd, row.estimated_nano_usd) for row in by_meter] == [
            ("code_interpreter_session", SESSION, 0),
            ("input_tokens", 115, 40),
        ]


async def test_spend_ends_before_until(store: SqliteStore, path: Path) -> None:
    with await spent(store, path) as reader:
        assert reader.spend("team", since=NOON - DAY, until=NOON) == []
        assert len(reader.spend("team", since=NOON, until=NOON + 1)) == 2


async def test_keys_are_kept_and_revoked_once(store: SqliteStore) -> None:
    older = KeyRecord(public="pub0", digest=b"d", team="sales", created_at=NOON - 1)
    await store.add_key(KEY)
    await store.add_key(older)
    assert await store.keys() == [older, KEY]
    with pytest.raises(ValueError, match="there is a key `pub1` already"):
        await store.add_key(KEY)
    assert await store.revoke_key("pub1", NOON + 1)
    assert not await store.revoke_key("pub1", NOON + 2)
    assert not await store.revoke_key("nobody", NOON)
    assert [key.revoked_at for key in await store.keys()] == [None, NOON + 1]


async def test_a_decision_is_kept_as_it_was_said(store: SqliteStore, path: Path) -> None:
    said = Decision(
        request="req-1",
        at=NOON,
        team="risk",
        operation="create_file",
        rule="only-tabular",
        verdict="deny",
        status=415,
        file_sha256="ab" * 32,
        file_bytes=9,
        file_type="image/png",
    )
    await store.decide(said)
    with open_reader(path) as reader:
        rows = reader._read(lambda c: c.execute("SELECT * FROM decisions").fetchall())
    (row,) = rows
    assert dict(row) == {"number": 1, **asdict(said)}


async def test_the_store_says_which_sqlite_it_is(store: SqliteStore, path: Path) -> None:
    said = store.describe()
    assert said["sqlite_version"] == sqlite3.sqlite_version
    assert said["path"] == str(path)
