"""Opening the file: who may write, who may read, and who must stay out.

One process serves a SQLite ledger. It holds a lock on a file beside it for as long as it lives; the
file itself is not locked, so that reports can be read meanwhile.

Only the writing connection ever checkpoints. SQLite 3.7.0 to 3.51.2 can lose committed pages when
two connections of one file write and checkpoint at the same moment.
Source: https://sqlite.org/wal.html#walresetbug (fixed in 3.51.3, 3.50.7 and 3.44.6).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from gateway.ports import StoreUnavailable

_FILE_MODE = 0o600
_BUSY_TIMEOUT_S = 2.0


class StoreBusy(Exception):
    """Another process serves this ledger."""


def lock(path: Path) -> int:
    """Return a descriptor that holds the ledger's lock until it is closed.

    Raises:
        StoreBusy: another process holds it.
        StoreUnavailable: the lock file cannot be made.
    """
    name = f"{path}.lock"
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    except OSError as error:
        raise StoreUnavailable(f"cannot make the lock `{name}`: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreBusy(
            f"another process serves the ledger `{path}`; a SQLite ledger has one: "
            "stop the other one; more than one process on a ledger is not there yet"
        ) from error
    return descriptor


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection that may write, to a file only its owner may read.

    Raises:
        StoreUnavailable: the file cannot be opened.
    """
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _FILE_MODE))
    except OSError as error:
        raise StoreUnavailable(f"cannot make the ledger `{path}`: {error.strerror}") from error
    return _connect(str(path), is_uri=False)


def connect_readonly(path: Path) -> sqlite3.Connection:
    """Return a connection that can neither write nor checkpoint.

    Raises:
        StoreUnavailable: there is no such file, or it is no ledger.
    """
    connection = _connect(f"file:{quote(str(path.absolute()))}?mode=ro", is_uri=True)
    try:
        connection.execute("PRAGMA query_only=ON")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("SELECT number FROM postings LIMIT 1").fetchone()
    except sqlite3.Error as error:
        connection.close()
        raise StoreUnavailable(f"cannot read the ledger `{path}`: {error}") from error
    return connection


def _connect(name: str, *, is_uri: bool) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            name,
            uri=is_uri,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
    except sqlite3.Error as error:
        raise StoreUnavailable(f"cannot open the ledger `{name}`: {error}") from error
    connection.row_factory = sqlite3.Row
    return connection
