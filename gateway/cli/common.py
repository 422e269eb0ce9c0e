"""What every command needs: the settings, the ledger, and a way to fail in one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.stores import ReadOnlyStore

FAILED: Final = 1
FAULTY: Final = 2
DEFAULT_CONFIG: Final = Path("gateway.toml")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The gateway.toml to use; by default the one in the working directory, if any.",
    ),
]


class Failure(Exception):
    """Something to say on standard error, and the exit code that goes with it."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def read_settings(config: Path | None, *, is_serving: bool) -> Settings:
    from gateway.settings import load_settings

    if config is None and DEFAULT_CONFIG.is_file():
        config = DEFAULT_CONFIG
    return load_settings(config, os.environ, is_serving=is_serving)


def database_of(settings: Settings) -> Path:
    from gateway.settings import sqlite_path

    database = sqlite_path(settings.store_url)
    if database is None:
        raise Failure("this command works on a `sqlite:///PATH` store only", FAULTY)
    return database


def open_report(config: Path | None) -> ReadOnlyStore:
    from gateway.stores import open_reader

    database = database_of(read_settings(config, is_serving=False))
    if not database.exists():
        raise Failure(f"there is no ledger `{database}` yet; `aoai-gateway serve` makes it")
    return open_reader(database)
