"""A store on a fresh file, and tables in memory for what needs no file."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.stores import SqliteStore
from gateway.stores.schema import migrate
from tests.stores.making import opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await opened(path)
    yield store
    await store.close()


@pytest.fixture
def tables() -> Iterator[sqlite3.Connection]:
    with closing(fresh_tables()) as connection:
        yield connection


def fresh_tables() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    migrate(connection)
    return connection
