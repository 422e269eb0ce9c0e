"""One session: what is asked for, the rounds, and what is shown of them."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench import candidates, figures, load, machine, plot
from bench.candidates import Candidate, CannotStart
from bench.figures import Reading

_CHAT, _STREAM = "chat", "stream"
_STREAMS = 4
_OTHERS_CORES_MAX = 0.25
_TITLES = {
    "chat-1": "one chat completion, 1 in flight (CPU-µs per request)",
    "chat-32": "one chat completion, 32 in flight (CPU-µs per request)",
    "stream-4": "4 streams, a chunk every 20 ms each (CPU-µs per chunk)",
}
_EPILOG = """\
The candidate runs on one core; the load and the upstream share another. CPU-µs is user and system
time of the candidate's whole process tree, divided by what it completed. `direct` is the upstream
without a proxy: its CPU time is its own, its latency is what the others are compared with.
Trust the ratios; the absolute figures are this machine's, today.

examples:
  make bench
  make bench ARGS="--quick"
  make bench ARGS="--only stream --rounds 7 --json figures.json --plot figures.svg"
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured, and how long."""

    rounds: int
    chat_s: float
    chunks: int
    only: str | None
    json_file: Path | None
    plot_file: Path | None
    folder: Path | None


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything a turn needs."""

    plan: Plan
    cores: machine.Cores
    folder: Path
    with_wrk: bool


def parse(arguments: Sequence[str] | None) -> Plan:
    """Return what the command line asks for; it exits with 2 if it asks for what there is not."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure what a request costs: without a proxy, through nginx, and through the "
        "gateway with everything on. Takes about two and a half minutes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="2 short rounds, about half a minute")
    parser.add_argument("--rounds", type=_count, metavar="N", help="rounds (5, with --quick 2)")
    parser.add_argument("--only", choices=(_CHAT, _STREAM), help="measure only these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every reading there")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw a bar chart there")
    parser.add_argument(
        "--dir", type=Path, help="folder on the disk that the ledger is to lie on (default: /tmp)"
    )
    asked = parser.parse_args(arguments)
    if asked.dir is not None and not asked.dir.is_dir():
        parser.error(f"there is no folder `{asked.dir}`")
    return Plan(
        rounds=asked.rounds or (2 if asked.quick else 5),
        chat_s=1.0 if asked.quick else 2.0,
        chunks=75 if asked.quick else 200,
        only=asked.only,
        json_file=asked.json,
        plot_file=asked.plot,
        folder=asked.dir,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, show and write; exits with 1 if the gateway itself could not be measured."""
    plan = parse(arguments)
    # Told to end, it ends what it started, too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    cores = machine.choose_cores()
    machine.pin(cores.load)
    with_wrk = load.has_wrk()
    for line in missing(with_wrk=with_wrk, with_nginx=candidates.nginx_command() is not None):
        _say(line)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=plan.folder) as name:
        bench = Bench(plan, cores, Path(name), with_wrk)
        disk = machine.measure_disk(bench.folder)
        try:
            readings = measure(bench)
        except CannotStart as fault:
            sys.exit(f"bench: {fault}")
    said = machine.describe()
    _show(readings, bench, disk, said)
    _write(
        plan,
        {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": said,
            "cores": asdict(cores),
            "disk": asdict(disk),
            "load": "wrk" if with_wrk else "own",
            "readings": [asdict(reading) for reading in readings],
        },
        plot.bar_chart(readings, _TITLES),
    )
    if not any(reading.candidate == "gateway" for reading in readings):
        sys.exit("bench: the gateway was not measured")


def missing(*, with_wrk: bool, with_nginx: bool) -> list[str]:
    """Return a line for everything that is not installed, with the package that has it."""
    lines = []
    if not with_wrk:
        lines.append(
            "`wrk` is missing, a slower load of our own takes its place; on Debian: "
            "apt-get install wrk"
        )
    if not with_nginx:
        lines.append(
            "`nginx` is missing, so there are no ratios; on Debian: apt-get install nginx-light"
        )
    return lines


def measure(bench: Bench) -> list[Reading]:
    """Run all rounds and return their readings; a spoilt turn is told and left out.

    Raises:
        CannotStart: the upstream or the gateway did not come up.
    """
    readings: list[Reading] = []
    with stand_up(bench) as standing:
        turns = _turns(bench)
        for candidate in standing:
            _warm_up(candidate, bench)
        total, done, began = bench.plan.rounds * len(turns) * len(standing), 0, time.monotonic()
        for number in range(bench.plan.rounds):
            # Every other round goes the other way about, so that nobody always comes first.
            order = standing if number % 2 == 0 else standing[::-1]
            for scenario, turn in turns.items():
                for candidate in order:
                    done += 1
                    elapsed = time.monotonic() - began
                    _say(f"[{done}/{total}, {elapsed:.0f} s] {scenario} {candidate.name}")
                    readings += take_turn(scenario, number, candidate, turn)
    names = [candidate.name for candidate in standing]
    return sorted(readings, key=lambda reading: names.index(reading.candidate))


@contextmanager
def stand_up(bench: Bench) -> Iterator[list[Candidate]]:
    """Run everything that can be measured; without nginx, what is left."""
    with ExitStack() as stack:
        direct = stack.enter_context(candidates.upstream(bench.cores))
        standing = [direct]
        if candidates.nginx_command() is not None:
            folder = bench.folder / "nginx"
            folder.mkdir()
            nginx = candidates.nginx(folder, direct.port, bench.cores)
            standing.append(stack.enter_context(nginx))
        gateway = candidates.gateway(bench.folder / "gateway", direct.port, bench.cores)
        standing.append(stack.enter_context(gateway))
        yield standing


Turn = Callable[[Candidate], load.Outcome]


def _turns(bench: Bench) -> dict[str, Turn]:
    plan = bench.plan

    def chat(in_flight: int) -> Turn:
        return lambda candidate: load.chat(
            candidate,
            in_flight=in_flight,
            seconds=plan.chat_s,
            folder=bench.folder,
            with_wrk=bench.with_wrk,
        )

    def streams(candidate: Candidate) -> load.Outcome:
        return load.streams(candidate, at_once=_STREAMS, chunks=plan.chunks)

    turns: dict[str, Turn] = {}
    if plan.only != _STREAM:
        turns |= {"chat-1": chat(1), "chat-32": chat(32)}
    if plan.only != _CHAT:
        turns[f"stream-{_STREAMS}"] = streams
    return turns


def _warm_up(candidate: Candidate, bench: Bench) -> None:
    """Let a candidate open its connections and import what it imports late.

    Raises:
        CannotStart: it does not answer well, so that there is nothing to measure.
    """
    try:
        load.streams(candidate, at_once=1, chunks=5)
        load.chat(candidate, in_flight=32, seconds=1, folder=bench.folder, with_wrk=bench.with_wrk)
    except load.Spoilt as spoilt:
        raise CannotStart(f"`{candidate.name}` does not answer well: {spoilt}") from spoilt


def take_turn(scenario: str, number: int, candidate: Candidate, turn: Turn) -> list[Reading]:
    """Return one reading, or none if the turn was spoilt."""
    tree = machine.process_tree(candidate.pid)
    busy, own, cpu = machine.machine_busy_us(), machine.own_cpu_us(), machine.cpu_us(tree)
    began = time.monotonic()
    try:
        came = turn(candidate)
    except load.Spoilt as spoilt:
        _say(f"  left out: {spoilt}")
        return []
    cpu = machine.cpu_us(tree) - cpu
    took_us = (time.monotonic() - began) * 1e6
    others = machine.machine_busy_us() - busy - (machine.own_cpu_us() - own)
    return [
        Reading(
            scenario=scenario,
            candidate=candidate.name,
            round=number,
            done=came.done,
            seconds=came.seconds,
            cpu_us=cpu,
            p50_us=came.p50_us,
            p99_us=came.p99_us,
            rss_mb=machine.rss_mb(tree),
            others_cores=max(others, 0) / took_us,
            first_p50_us=came.first_p50_us,
        )
    ]


def _show(
    readings: Sequence[Reading],
    bench: Bench,
    disk: machine.Disk,
    said: Mapping[str, str | int | float],
) -> None:
    print()
    for scenario, title in _TITLES.items():
        if any(reading.scenario == scenario for reading in readings):
            print(f"{title}\n")
            print(figures.text_table(figures.table(readings, scenario)), end="\n\n")
    pinned = (
        f"candidate on core {bench.cores.candidate}, load and upstream on core {bench.cores.load}"
        if bench.cores.candidate is not None
        else "one core for everything, nothing pinned: compare with nothing else"
    )
    print("median (least-greatest) of the rounds; `× nginx` is taken round by round")
    print(f"{pinned}; load: {'wrk' if bench.with_wrk else 'our own, no wrk'}")
    print(f"append + fdatasync on {disk.filesystem}: p50 {disk.p50_us:.0f} µs, ", end="")
    print(f"p99 {disk.p99_us:.0f} µs")
    print(f"{said['processor']}, kernel {said['kernel']}, Python {said['python']}", end="")
    print(f" (yardstick {said['yardstick_us']} µs)")
    if readings:
        others = figures.spread([reading.others_cores for reading in readings])
        print(f"kept busy by others (and by the host) meanwhile: {others.show(2)} cores")
        if others.middle > _OTHERS_CORES_MAX:
            print("that is too much for these figures to be quoted: measure again when it is quiet")


def _write(plan: Plan, document: Mapping[str, object], chart: str) -> None:
    if plan.json_file is not None:
        plan.json_file.write_text(json.dumps(document, indent=2) + "\n")
        _say(f"written: {plan.json_file}")
    if plan.plot_file is not None:
        plan.plot_file.write_text(chart)
        _say(f"written: {plan.plot_file}")


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"`{text}` is not a number from 1 to 100")
    return int(text)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
