"""Reports from the command line: exact, documented, and in nobody's way."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.core.model import SECOND
from gateway.reports import day_start, timestamp, usd
from tests.cli.acting import AT, LEDGER_FIELDS, Ran, running


@pytest.mark.parametrize("words", [["sessions"], ["spend", "--by", "day"], ["ledger"]])
def test_a_report_on_no_ledger_says_so(
    run: Callable[..., Ran], database: Path, words: list[str]
) -> None:
    ran = run(*words)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        f"aoai-gateway: there is no ledger `{database}` yet; `aoai-gateway serve` makes it\n"
    )


def test_a_report_on_a_file_that_is_no_ledger_fails_in_one_line(
    run: Callable[..., Ran], database: Path
) -> None:
    database.write_bytes(b"not a database, but long enough to be looked at" * 100)
    ran = run("sessions")
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (1, "", 1)


def test_sessions_are_listed_with_what_they_cost(run: Callable[..., Ran], full: Path) -> None:
    assert run("sessions").out == (
        "OPENED             ENDS               TEAM  KIND    SCOPE       CALLS   USD  CONFIDENCE\n"
        "2026-11-23 20:33Z  2026-11-23 21:33Z  blue  thread  thread_1        1  0.03  exact\n"
        "total                                               1 sessions         0.03\n"
    )
    assert "thread_1" not in run("sessions", "--team", "green").out


def test_spend_is_summed_by_team_with_the_estimated_part(
    run: Callable[..., Ran], full: Path
) -> None:
    assert run("spend", "--by", "team").out == (
        "TEAM   METER                     QUANTITY        USD  ESTIMATED\n"
        "blue   code_interpreter_session         1       0.03       0.00\n"
        "blue   input_tokens                  1000     0.0025       0.00\n"
        "green  output_tokens                    3  <0.000001  <0.000001\n"
        "total                                         0.0325  <0.000001\n"
    )


def test_spend_as_json_and_csv_is_exact(run: Callable[..., Ran], full: Path) -> None:
    rows = json.loads(run("spend", "--by", "meter", "--format", "json").out)
    assert [(row["meter"], row["nano_usd"], row["usd"]) for row in rows] == [
        ("code_interpreter_session", 30_000_000, "0.03"),
        ("input_tokens", 2_500_000, "0.0025"),
        ("output_tokens", 1, "<0.000001"),
    ]
    text = run("spend", "--by", "day", "--format", "csv").out
    table = list(csv.DictReader(io.StringIO(text)))
    assert [(row["day"], row["nano_usd"], row["estimated_nano_usd"]) for row in table] == [
        ("2026-11-23", "30000000", "0"),
        ("2026-11-23", "2500000", "0"),
        ("2026-11-24", "1", "1"),
    ]


def test_since_is_included_and_until_is_not(run: Callable[..., Ran], full: Path) -> None:
    words = ["spend", "--by", "team", "--format", "json"]
    first = json.loads(run(*words, "--until", "2026-11-24").out)
    second = json.loads(run(*words, "--since", "2026-11-24", "--until", "2026-11-25").out)
    assert [row["team"] for row in first] == ["blue", "blue"]
    assert [row["team"] for row in second] == ["green"]
    wrong = run(*words, "--since", "yesterday")
    assert (wrong.code, wrong.err) == (
        2,
        "aoai-gateway: `yesterday` is not a day such as `2026-11-23`\n",
    )


def test_a_ledger_line_has_exactly_the_documented_fields_in_order(
    run: Callable[..., Ran], full: Path
) -> None:
    lines = [json.loads(line) for line in run("ledger", "--format", "jsonl").out.splitlines()]
    assert [", ".join(line) for line in lines] == [LEDGER_FIELDS] * 3
    session = next(line for line in lines if line["meter"] == "code_interpreter_session")
    assert session == {
        "v": 1,
        "posting": session["posting"],
        "fact": "session/azure/thread/thread_1/step_1",
        "revision": 1,
        "kind": "charge",
        "at": "2026-11-23T20:33:20.000000Z",
        "team": "blue",
        "key": "abcdefghijkl",
        "upstream": "azure",
        "surface": "dated",
        "deployment": "chat",
        "model": "gpt-4o",
        "meter": "code_interpreter_session",
        "quantity": 1,
        "nano_usd": 30_000_000,
        "price_id": "ci-2025",
        "confidence": "exact",
        "reason": None,
        "scope": "azure/thread/thread_1",
        "run": "run_1",
        "response": None,
        "request": "req_1",
    }


def test_a_reader_goes_on_after_the_posting_it_read_last(
    run: Callable[..., Ran], full: Path
) -> None:
    lines = [json.loads(line) for line in run("ledger").out.splitlines()]
    assert [line["posting"] for line in lines] == [1, 2, 3]
    rest = [json.loads(line) for line in run("ledger", "--after", "1").out.splitlines()]
    assert rest == lines[1:]
    assert run("ledger", "--after", "3").out == ""


def test_reports_work_while_a_gateway_serves_the_ledger(
    run: Callable[..., Ran], full: Path
) -> None:
    with running(full):
        assert run("sessions").code == 0
        assert len(run("ledger").out.splitlines()) == 3


@pytest.mark.parametrize("options", ["", "-u"], ids=["buffered", "unbuffered"])
def test_a_reader_that_has_seen_enough_is_no_stack_trace(
    full: Path, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    command = f"{sys.executable} {options} -m gateway.cli ledger | true"
    done = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, check=True, cwd=full.parent
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("nano_usd", "text"),
    [
        (0, "0.00"),
        (30_000_000, "0.03"),
        (-30_000_000, "-0.03"),
        (1_500_000_000, "1.50"),
        (1_234_567_890, "1.234568"),
        (500, "<0.000001"),
        (501, "0.000001"),
        (1_500, "0.000002"),
        (2_500, "0.000002"),
        (-1, "-<0.000001"),
        (999_999_999_999_999_999, "1000000000.00"),
    ],
)
def test_money_is_shown_with_two_to_six_decimals(nano_usd: int, text: str) -> None:
    assert usd(nano_usd) == text


def test_moments_and_days_are_utc() -> None:
    assert timestamp(AT + 1) == "2026-11-23T20:33:20.000001Z"
    assert day_start("2026-11-23") == 1_795_392_000 * SECOND
    with pytest.raises(ValueError, match="is not a day such as"):
        day_start("2026-02-30")
