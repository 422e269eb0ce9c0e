"""The measurement of the shell alone: whom it asks what, and what it makes of the answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import candidates, figures, load, machine, shell, wire
from bench.figures import Reading
from bench.session import Bench, Plan
from gateway.core.catalogue import CATALOGUE
from gateway.core.operations import Bills, Catalogue
from gateway.core.target import parse_target


def reading(candidate: str, number: int, p50_us: float) -> Reading:
    return Reading("shell-1", candidate, number, 10, 1.0, 100, p50_us, p50_us, 20.0, 0.0)


def test_what_is_asked_bills_nothing_and_is_not_journalled() -> None:
    target = parse_target(wire.assistant_path("asst_bench").encode())
    operation = Catalogue(CATALOGUE).match("GET", target.segments).operation
    assert operation.name == "assistants.get"
    assert operation.bills is Bills.NOTHING
    assert not operation.is_journalled


def test_the_answer_is_small() -> None:
    head, _, body = wire.assistant_reply().partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert json.loads(body)["id"] == "asst_bench"
    assert len(body) < 1024


def test_the_ratio_of_latencies_is_taken_round_by_round() -> None:
    readings = [
        reading("nginx", 0, 100),
        reading("gateway", 0, 700),
        reading("nginx", 1, 200),
        reading("gateway", 1, 600),
        reading("gateway", 2, 600),
    ]
    assert shell.latency_ratio(readings, "shell-1") == figures.Spread(5, 3, 7)
    assert shell.latency_ratio(readings[1:2], "shell-1") is None


def test_the_stand_in_for_azure_makes_and_shows_an_assistant_and_still_chats(
    tmp_path: Path,
) -> None:
    plan = Plan(1, 1.0, 0, None, None, None, None)
    nowhere = machine.Cores(None, None)
    with candidates.upstream(nowhere) as direct:
        assert shell.create(direct) == "asst_bench"
        bench = Bench(plan, nowhere, tmp_path, with_wrk=False)
        done = load.chat(
            direct, in_flight=1, seconds=0.05, folder=bench.folder, with_wrk=bench.with_wrk
        )
        assert done.done > 0


def test_who_makes_no_assistant_is_not_measured() -> None:
    with pytest.raises(candidates.CannotStart, match="makes no assistant"):
        shell.create(candidates.Candidate("nobody", 1, 1))
