"""What the shell alone costs: a question that bills nothing, so that no ledger is in it.

`GET /openai/assistants/{id}` passes the door, the key, the catalogue, the question whose assistant
it is, the transport and the way back. Nothing is committed and nothing priced: what is left is
what every request pays before anything is done for it. Candidates, rounds and figures are those of
`session`, and so is what is to be believed of them.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bench import candidates, figures, load, machine, wire
from bench.candidates import Candidate, CannotStart
from bench.figures import Reading
from bench.session import Bench, Plan, stand_up, take_turn

IN_FLIGHT = (1, 32)

_SCRIPT = """\
wrk.headers["api-key"] = {key}
done = function(summary, latency, requests)
  local faults = summary.errors
  io.write(string.format(
    'RESULT {{"requests": %d, "p50_us": %d, "p99_us": %d, "faults": %d}}\\n',
    summary.requests, latency:percentile(50), latency:percentile(99),
    faults.connect + faults.read + faults.write + faults.status + faults.timeout))
end
"""
_PATIENCE_S = 15.0
_REPLY_BYTES_MAX = 64 * 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and show; exits with 1 if there is no wrk, or a candidate does not come up."""
    parser = argparse.ArgumentParser(prog="python -m bench shell", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (5)")
    parser.add_argument("--seconds", type=int, default=2, metavar="S", help="of one load (2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every reading there")
    asked = parser.parse_args(arguments)
    if not load.has_wrk():
        sys.exit("bench: `wrk` is missing; on Debian: apt-get install wrk")
    cores = machine.choose_cores()
    machine.pin(cores.load)
    plan = Plan(asked.rounds, float(asked.seconds), 0, None, asked.json, None, None)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        bench = Bench(plan, cores, Path(name), with_wrk=True)
        try:
            readings = measure(bench)
        except CannotStart as fault:
            sys.exit(f"bench: {fault}")
    _show(readings)
    if plan.json_file is not None:
        rows = [asdict(reading) for reading in readings]
        plan.json_file.write_text(json.dumps(rows, indent=2) + "\n")


def measure(bench: Bench) -> list[Reading]:
    """Run all rounds and return their readings; a spoilt turn is told and left out.

    Raises:
        CannotStart: a candidate did not come up, or does not answer well.
    """
    readings: list[Reading] = []
    with stand_up(bench) as standing:
        names = {candidate.name: create(candidate) for candidate in standing}
        for candidate in standing:
            _warm_up(candidate, names[candidate.name], bench)
        for number in range(bench.plan.rounds):
            # Every other round goes the other way about, so that nobody always comes first.
            for in_flight in IN_FLIGHT:
                for candidate in standing if number % 2 == 0 else standing[::-1]:
                    scenario = f"shell-{in_flight}"
                    print(f"round {number + 1}: {scenario} {candidate.name}", file=sys.stderr)
                    name = names[candidate.name]
                    turn = partial(ask, name=name, bench=bench, in_flight=in_flight)
                    readings += take_turn(scenario, number, candidate, turn)
    order = [candidate.name for candidate in standing]
    return sorted(readings, key=lambda reading: order.index(reading.candidate))


def create(candidate: Candidate) -> str:
    """Have an assistant made, so that it is the caller's, and return its id.

    Raises:
        CannotStart: it was not made.
    """
    body = json.dumps({"model": wire.MODEL}).encode()
    headers = {"api-key": candidate.api_key, "content-type": "application/json"}
    link = http.client.HTTPConnection("127.0.0.1", candidate.port, timeout=_PATIENCE_S)
    try:
        link.request("POST", wire.ASSISTANTS, body, headers)
        answer = link.getresponse()
        said = answer.read(_REPLY_BYTES_MAX)
    except OSError as fault:
        raise CannotStart(f"`{candidate.name}` makes no assistant: {fault}") from fault
    finally:
        link.close()
    if answer.status != 200:
        raise CannotStart(f"`{candidate.name}` makes no assistant: {said.decode(errors='replace')}")
    return str(json.loads(said)["id"])


def ask(candidate: Candidate, *, name: str, bench: Bench, in_flight: int) -> load.Outcome:
    """Keep `in_flight` questions going for the plan's seconds.

    Raises:
        Spoilt: not all were answered with 200.
    """
    script = bench.folder / "question.lua"
    script.write_text(_SCRIPT.format(key=json.dumps(candidate.api_key)))
    url = f"http://127.0.0.1:{candidate.port}{wire.assistant_path(name)}"
    # wrk takes whole seconds only.
    duration = max(1, round(bench.plan.chat_s))
    command = ["wrk", "-t1", f"-c{in_flight}", f"-d{duration}s", "-s", str(script), url]
    began = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=duration + _PATIENCE_S
    )
    return load.parse_wrk(done.stdout, time.monotonic() - began)


def _warm_up(candidate: Candidate, name: str, bench: Bench) -> None:
    try:
        ask(candidate, name=name, bench=bench, in_flight=max(IN_FLIGHT))
    except load.Spoilt as spoilt:
        raise CannotStart(f"`{candidate.name}` does not answer well: {spoilt}") from spoilt


def _show(readings: Sequence[Reading]) -> None:
    for in_flight in IN_FLIGHT:
        scenario = f"shell-{in_flight}"
        print(f"\n{scenario}: an assistant is asked for, {in_flight} in flight\n")
        print(figures.text_table(figures.table(readings, scenario)))
    print("\nmedian (least-greatest) of the rounds; `× nginx` is CPU time, taken round by round")
    for in_flight in IN_FLIGHT:
        ratio = latency_ratio(readings, f"shell-{in_flight}")
        if ratio is not None:
            print(f"latency of the gateway, p50, × nginx, {in_flight} in flight: {ratio.show(1)}")
    if candidates.nginx_command() is None:
        print("`nginx` is missing, so there are no ratios; on Debian: apt-get install nginx-light")
    if readings:
        others = figures.spread([reading.others_cores for reading in readings])
        print(f"kept busy by others (and by the host) meanwhile: {others.show(2)} cores")


def latency_ratio(readings: Sequence[Reading], scenario: str) -> figures.Spread | None:
    """Return how many times nginx's p50 the gateway's is, round by round; None without a pair."""
    of_nginx = {one.round: one.p50_us for one in figures.of(readings, scenario, "nginx")}
    ratios = [
        one.p50_us / of_nginx[one.round]
        for one in figures.of(readings, scenario, "gateway")
        if one.round in of_nginx
    ]
    return figures.spread(ratios) if ratios else None
