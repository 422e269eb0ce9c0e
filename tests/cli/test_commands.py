"""The command line as a whole: help, exit codes, configuration, and what serves until stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import typer

import gateway
from gateway.cli import app
from tests.cli.acting import Ran, started


def every_command() -> list[tuple[str, ...]]:
    top = typer.main.get_command(app)
    words: list[tuple[str, ...]] = [()]
    for name, command in top.commands.items():  # type: ignore[attr-defined]
        words.append((name,))
        words += [(name, inner) for inner in getattr(command, "commands", {})]
    return words


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_every_command_says_what_it_does_and_shows_an_example(
    run: Callable[..., Ran], words: tuple[str, ...]
) -> None:
    ran = run(*words, "--help")
    assert ran.code == 0
    assert "Example" in ran.out
    assert f"\n    aoai-gateway {words[0] if words else 'demo'}" in ran.out
    first = ran.out.split("\n\n")[1].strip().splitlines()[0]
    assert first.endswith(".")


def test_no_command_escapes_the_check_of_its_help() -> None:
    assert ("keys", "issue") in every_command()
    assert len(every_command()) == 16


def test_the_installed_module_runs_as_a_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout == f"aoai-gateway {gateway.__version__}\n"


def test_help_and_version_load_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys; from gateway.cli import app\n"
        "heavy = {'uvicorn', 'starlette', 'aiohttp', 'pydantic', 'sqlite_utils', 'openai'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "words",
    [
        ["nope"],
        ["keys", "issue"],
        ["spend", "--by", "colour"],
        ["ledger", "--after", "-1"],
        ["simulator", "--port", "70000"],
    ],
)
def test_a_wrong_command_line_ends_with_2(run: Callable[..., Ran], words: list[str]) -> None:
    ran = run(*words)
    assert (ran.code, ran.out) == (2, "")
    assert "Usage" in ran.err


@pytest.mark.parametrize("command", ["serve", "sessions", "ledger"])
def test_faults_of_the_configuration_are_told_one_a_line_and_end_with_2(
    run: Callable[..., Ran], config: Path, command: str
) -> None:
    config.write_text("[listen]\ndata = 'x'\nadmin = 'y'\n[[team]]\nid = ''\n", encoding="utf-8")
    ran = run(command, "--config", config)
    assert (ran.code, ran.out) == (2, "")
    lines = ran.err.splitlines()
    assert [line.split(": ")[1] for line in lines[:3]] == [
        "listen.data",
        "listen.admin",
        "team[0].id",
    ]
    assert all(line.startswith("aoai-gateway: ") for line in lines)


def test_init_writes_a_folder_that_checks_without_a_fault(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new" / "gateway"
    ran = run("init", folder)
    assert ran.code == 0
    assert {Path(line).name for line in ran.out.splitlines()} >= {
        "gateway.toml",
        "budgets.toml",
        "code_interpreter.cases.toml",
    }
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "k")
    checked = run("config", "check", folder / "gateway.toml")
    assert (checked.code, checked.err) == (0, "")
    assert checked.out == (
        f"ok: 1 upstreams, 0 deployments, 1 teams, policies in {folder / 'policies'}\n"
    )


def test_init_overwrites_nothing(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("mine", encoding="ascii")
    ran = run("init", tmp_path)
    assert ran.code == 1
    assert ran.err == f"aoai-gateway: would overwrite `{tmp_path / 'gateway.toml'}`\n"
    assert [path.name for path in tmp_path.iterdir()] == ["gateway.toml"]
    assert (tmp_path / "gateway.toml").read_text(encoding="ascii") == "mine"


def test_config_check_tells_faults_of_settings_and_of_policies(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("init", tmp_path)
    ran = run("config", "check", tmp_path / "gateway.toml")
    assert ran.code == 2
    assert ran.err == (
        "aoai-gateway: gateway.toml: upstream[0].api_key: "
        "environment variable `AZURE_OPENAI_API_KEY` is empty or not set\n"
    )
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "k")
    budget = "[[budget]]\nrule='r'\nsubject='team'\nteam='bleu'\nperiod='day'\nusd='1'"
    (tmp_path / "policies" / "budgets.toml").write_text(budget, encoding="ascii")
    ran = run("config", "check", tmp_path / "gateway.toml")
    assert ran.code == 2
    assert ran.err == (
        "aoai-gateway: budgets.toml: budget[0].team: `bleu` is not one of `default`\n"
    )


def test_config_check_knows_which_models_have_no_price(
    run: Callable[..., Ran], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOT_SET_HERE", "set-here")
    row = "[[deployment]]\nname = 'd'\nmodel = 'unheard-of'\n"
    config.write_text(config.read_text(encoding="utf-8") + row, encoding="utf-8")
    ran = run("config", "check")
    assert ran.code == 2
    assert ran.err.startswith(
        "aoai-gateway: deployment[0].model: `unheard-of` has no price; known: `"
    )


def test_config_schema_prints_json(run: Callable[..., Ran]) -> None:
    ran = run("config", "schema")
    assert ran.code == 0
    assert "upstream" in json.loads(ran.out)["properties"]


def test_the_simulator_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    with started("simulator", folder=tmp_path, until="api-key") as (process, said):
        endpoint = said.split()[1]
        with httpx.Client(trust_env=False) as client:
            invoice = client.get(f"{endpoint}/simulator/invoice").json()
        assert invoice["total_nano_usd"] == 0
        process.terminate()
        assert process.wait(timeout=30) == 0


def test_config_check_does_without_a_file_as_serve_does(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    missing = run("config", "check")
    assert missing.code == 2
    assert "AZURE_OPENAI_ENDPOINT" in missing.err

    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://resource.example")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "a-key")
    found = run("config", "check")
    assert (found.code, found.err) == (0, "")
    assert found.out.startswith("ok: 1 upstreams, 0 deployments, 1 teams")
