"""Where the ledger lives: one contract (`gateway.ports.Store`), one module per engine."""

from __future__ import annotations

from gateway.stores.readonly import ReadOnlyStore, SpendRow, open_reader
from gateway.stores.sqlite import SqliteStore, StoreBusy, open_store

__all__ = [
    "ReadOnlyStore",
    "SpendRow",
    "SqliteStore",
    "StoreBusy",
    "open_reader",
    "open_store",
]
