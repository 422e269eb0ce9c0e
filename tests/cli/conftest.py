"""Fixtures of the command line's tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cli import main
from tests.cli.acting import Ran, filled


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Return a function that runs a command in this process."""

    def run_command(*words: str | Path) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Ran(code=int(caught.value.code or 0), out=said.out, err=said.err)

    return run_command


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a gateway.toml with teams blue and green; it is the one in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "gateway.toml"
    path.write_text(
        """
        [[upstream]]
        name = "azure"
        kind = "azure-openai"
        endpoint = "https://x.openai.azure.com"
        api_key = "env:NOT_SET_HERE"
        [[team]]
        id = "blue"
        [[team]]
        id = "green"
        """,
        encoding="utf-8",
    )
    return path


@pytest.fixture
def database(config: Path) -> Path:
    """Return where the ledger of `config` lies."""
    return config.with_name("aoai-gateway.db")


@pytest.fixture
def full(database: Path) -> Path:
    """Return a ledger with a few postings that nobody serves."""
    asyncio.run(filled(database))
    return database
