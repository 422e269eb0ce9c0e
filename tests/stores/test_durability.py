"""What was acknowledged is there, and what fails fails alone."""

from __future__ import annotations

import asyncio
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.ledger import IntentState, Outcome, OwnedObject
from gateway.ports import KeyRecord, StoreUnavailable
from gateway.stores import SqliteStore, StoreBusy, open_store
from gateway.stores.owners import Owners
from gateway.stores.schema import migrate
from gateway.stores.worker import Ticket, Worker
from gateway.stores.writer import commit, open_writer
from tests.stores.making import FILE, NOON, StoppedClock, call, claim, intent, news, opened

ROOT = Path(__file__).resolve().parents[2]

BOOKS_IN_A_LOOP = """
import asyncio, itertools, sys
from pathlib import Path
from tests.stores.making import charge, claim, intent, news, opened

async def main() -> None:
    store = await opened(Path(sys.argv[1]))
    async def caller(name: str) -> None:
        for n in itertools.count():
            request = f"{name}-{n}"
            await store.reserve(intent(request), [claim(cap=10**9)])
            await store.book(news(charges=[charge(1, fact=request)]))
            print(request, flush=True)
    await asyncio.gather(*(caller(f"c{n}") for n in range(4)))

asyncio.run(main())
"""

OPENS = """
import asyncio, sys
from pathlib import Path
from tests.stores.making import opened

asyncio.run(opened(Path(sys.argv[1])))
"""


def names_beside(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.iterdir())


def acknowledged_until_killed(path: Path) -> list[str]:
    """Let a process book in a loop, kill it, and return the requests it said were done."""
    with subprocess.Popen(
        [sys.executable, "-c", BOOKS_IN_A_LOOP, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        acknowledged = [child.stdout.readline().strip() for _ in range(200)]
        child.send_signal(signal.SIGKILL)
        # The last line may have been cut short.
        return acknowledged + child.stdout.read().split("\n")[:-1]


async def test_whatever_was_acknowledged_outlives_kill_9(path: Path) -> None:
    acknowledged = set(await asyncio.to_thread(acknowledged_until_killed, path))
    store = await opened(path)
    try:
        booked = [row.posting.charge.fact async for row in store.ledger()]
        assert "" not in acknowledged
        assert len(acknowledged) >= 200
        assert acknowledged <= set(booked)
        assert len(booked) == len(set(booked))
        orphans = await store.orphans()
        assert acknowledged <= {orphan.id for orphan in orphans}
        reserved = (await store.balances("team:risk", NOON))["sessions", "day"][1]
        assert reserved == len(orphans)
    finally:
        await store.close()


async def test_a_second_process_is_kept_out_and_told_why(store: SqliteStore, path: Path) -> None:
    second = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", OPENS, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 1
    assert re.search(r"StoreBusy: another process .*ledger\.db.*stop the other one", second.stderr)
    assert await store.unsettled() == (0, None)


async def test_a_store_that_was_closed_can_be_opened_again_and_remembers(path: Path) -> None:
    first = await opened(path)
    await first.book(news(call(0)))
    await first.close()
    second = await opened(path)
    try:
        assert len(await second.sessions()) == 1
    finally:
        await second.close()


async def test_the_same_process_cannot_open_it_twice(store: SqliteStore, path: Path) -> None:
    with pytest.raises(StoreBusy):
        await opened(path)
    assert await store.keys() == []


async def test_orphans_are_the_open_intents_of_an_earlier_opening(path: Path) -> None:
    first = await opened(path)
    for name in ("open", "waiting", "closed"):
        await first.reserve(intent(name), [])
    waits = Outcome(IntentState.AWAITING, look_at=NOON)
    await first.book(news(intent="waiting", outcome=waits))
    await first.book(news(intent="closed", outcome=Outcome(IntentState.SETTLED)))
    assert await first.orphans() == []
    await first.close()
    second = await opened(path)
    try:
        await second.reserve(intent("new"), [])
        assert [orphan.id for orphan in await second.orphans()] == ["open"]
    finally:
        await second.close()


async def test_closing_finishes_what_was_begun_and_leaves_no_wal(path: Path) -> None:
    store = await opened(path)
    begun = asyncio.gather(*(store.reserve(intent(f"r{n}"), []) for n in range(300)))
    await asyncio.sleep(0)
    await store.close()
    assert await begun == [None] * 300
    assert names_beside(path) == ["ledger.db", "ledger.db.lock"]
    await store.close()


async def test_a_closed_store_is_unavailable(path: Path) -> None:
    store = await opened(path)
    await store.close()
    with pytest.raises(StoreUnavailable, match="the store is closed"):
        await store.reserve(intent(), [])
    with pytest.raises(StoreUnavailable, match="the store is closed"):
        await store.keys()


async def test_a_probe_writes_and_leaves_everything_as_it_was(
    store: SqliteStore, path: Path
) -> None:
    await store.add_key(KeyRecord(public="p", digest=b"d", team="risk", created_at=NOON))
    wal = path.with_name("ledger.db-wal")
    before = await asyncio.to_thread(wal.stat)
    await store.probe()
    assert (await asyncio.to_thread(wal.stat)).st_size > before.st_size
    assert [row async for row in store.ledger()] == []
    await store.close()
    with pytest.raises(StoreUnavailable, match="the store is closed"):
        await store.probe()


async def test_the_writer_waits_for_the_disk_at_every_commit(store: SqliteStore) -> None:
    def pragmas(connection: sqlite3.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    full = 2
    assert await store._writer.submit(pragmas) == ["wal", full, 0]


async def test_a_ledger_that_cannot_have_a_write_ahead_log_is_refused() -> None:
    with (
        closing(sqlite3.connect(":memory:", isolation_level=None)) as connection,
        pytest.raises(StoreUnavailable, match="`memory`, not `wal`"),
    ):
        open_writer(connection)


def test_in_one_batch_a_failing_job_takes_nothing_with_it(tables: sqlite3.Connection) -> None:
    def insert(connection: sqlite3.Connection, public: str) -> str:
        connection.execute("INSERT INTO keys VALUES (?, x'00', 'risk', 1, NULL)", (public,))
        return public

    def fails(connection: sqlite3.Connection) -> None:
        insert(connection, "lost")
        raise LookupError("mine alone")

    batch = [Ticket(lambda c: insert(c, "a")), Ticket(fails), Ticket(lambda c: insert(c, "b"))]
    first, second, third = commit(tables, batch)
    assert (first.value, first.error) == ("a", None)
    assert isinstance(second.error, LookupError)
    assert (third.value, third.error) == ("b", None)
    kept = tables.execute("SELECT public FROM keys ORDER BY public").fetchall()
    assert [row["public"] for row in kept] == ["a", "b"]


def test_when_the_transaction_is_lost_every_job_of_the_batch_is_told(
    tables: sqlite3.Connection,
) -> None:
    def loses_everything(connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")
        raise sqlite3.OperationalError("disk I/O error")

    told: list[str] = []
    batch = [
        Ticket(lambda _: "fine", committed=lambda: told.append("committed")),
        Ticket(loses_everything),
        Ticket(lambda _: "never reached"),
    ]
    answers = commit(tables, batch)
    assert [type(answer.error) for answer in answers] == [StoreUnavailable] * 3
    assert told == []
    assert [answer.value for answer in commit(tables, batch[:1])] == ["fine"]
    assert told == ["committed"]


def test_a_commit_that_fails_fails_every_job_of_the_batch(tables: sqlite3.Connection) -> None:
    tables.execute("PRAGMA foreign_keys=ON")
    tables.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
    tables.execute("CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED)")
    batch = [
        Ticket(lambda c: c.execute("INSERT INTO child VALUES (7)").rowcount),
        Ticket(lambda c: c.execute("INSERT INTO parent VALUES (1)").rowcount),
    ]
    answers = commit(tables, batch)
    assert [type(answer.error) for answer in answers] == [StoreUnavailable] * 2
    assert not tables.in_transaction
    assert tables.execute("SELECT count(*) FROM parent").fetchone()[0] == 0


async def test_a_full_disk_is_unavailable_and_works_again_when_there_is_room(
    path: Path,
) -> None:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    migrate(connection)
    writer: Worker = open_writer(connection)
    try:
        pages = await writer.submit(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await writer.submit(lambda c: c.execute(f"PRAGMA max_page_count={pages:d}"))
        insert = "INSERT INTO keys VALUES (hex(randomblob(9)), zeroblob(20000), 't', 1, NULL)"
        with pytest.raises(StoreUnavailable, match="full"):
            await writer.submit(lambda c: c.execute(insert))
        await writer.submit(lambda c: c.execute("PRAGMA max_page_count=100000"))
        await writer.submit(lambda c: c.execute(insert))
        kept = await writer.submit(lambda c: c.execute("SELECT count(*) FROM keys").fetchone()[0])
        assert kept == 1
    finally:
        await asyncio.to_thread(writer.close)


async def test_somebody_elses_write_lock_makes_it_unavailable_and_then_it_works_again(
    path: Path,
) -> None:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
    migrate(connection)
    writer = open_writer(connection)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
            stranger.execute("PRAGMA wal_autocheckpoint=0")
            stranger.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                await writer.submit(lambda c: c.execute("DELETE FROM keys").rowcount)
            stranger.execute("ROLLBACK")
        assert await writer.submit(lambda c: c.execute("DELETE FROM keys").rowcount) == 0
    finally:
        await asyncio.to_thread(writer.close)


async def test_a_full_ledger_journals_nothing_holds_nothing_and_recovers(
    store: SqliteStore,
) -> None:
    # Longer than a page, so that it cannot fit into what is left of one.
    large = replace(intent("large"), operation="x" * 20_000)
    pages = await store._writer.submit(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    await store._writer.submit(lambda c: c.execute(f"PRAGMA max_page_count={pages:d}"))
    with pytest.raises(StoreUnavailable, match="full"):
        await store.reserve(large, [claim()])
    assert await store.intent("large") is None
    assert (await store.balances("team:risk", NOON))["sessions", "day"] == (0, 0)
    await store._writer.submit(lambda c: c.execute("PRAGMA max_page_count=100000"))
    assert await store.reserve(large, [claim()]) is None
    assert await store.intent("large") == large


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="nowhere"):
        await opened(tmp_path / "nowhere" / "ledger.db")


async def test_a_file_that_is_no_ledger_is_left_alone(path: Path) -> None:
    await asyncio.to_thread(path.write_bytes, b"once upon a time" * 512)
    with pytest.raises(StoreUnavailable, match="not a database"):
        await opened(path)
    assert await asyncio.to_thread(path.read_bytes) == b"once upon a time" * 512


async def test_a_ledger_of_a_newer_release_is_refused(path: Path) -> None:
    await (await opened(path)).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
            "VALUES ('gateway', 'ninety-ninth', '')"
        )
        connection.commit()
    with pytest.raises(StoreUnavailable, match="`ninety-ninth`"):
        await opened(path)


@pytest.mark.parametrize("url", ["postgresql://db/ledger", "sqlite:///", "ledger.db", "sqlite://x"])
async def test_a_url_that_is_no_store_of_ours_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"store is|not there yet"):
        await open_store(url, clock=StoppedClock())


async def test_only_the_owner_of_the_file_may_read_it(store: SqliteStore, path: Path) -> None:
    await store.add_key(KeyRecord(public="p", digest=b"d", team="risk", created_at=NOON))
    assert names_beside(path) == ["ledger.db", "ledger.db-shm", "ledger.db-wal", "ledger.db.lock"]
    assert [name for name in path.parent.iterdir() if name.stat().st_mode & 0o077] == []


def test_what_was_read_before_a_deletion_is_not_remembered_after_it() -> None:
    owners = Owners()
    epoch = owners.epoch
    owners.forget([FILE])
    owners.keep({FILE: "risk"}, epoch=epoch)
    assert owners.known([FILE]) == {}
    owners.keep({FILE: "risk"}, epoch=owners.epoch)
    assert owners.known([FILE]) == {FILE: "risk"}


async def test_an_object_is_forgotten_even_if_nobody_waits_for_its_deletion(
    store: SqliteStore,
) -> None:
    created = (OwnedObject(object=FILE, team="risk", at=NOON),)
    await store.book(replace(news(), created=created))
    assert await store.owners([FILE]) == {FILE: "risk"}
    deleting = asyncio.gather(store.book(replace(news(), deleted=(FILE,))))
    await asyncio.sleep(0)
    deleting.cancel()
    await store.book(news())
    assert await store.owners([FILE]) == {}
