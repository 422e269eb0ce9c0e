"""What a connection costs: the gateway's memory for those that are idle, and for open streams.

In every round the gateway is started anew. It is warmed up, its resident memory is read, then so
many connections are held, each after one answered request, and it is read again; the difference
divided by their number is the cost of one. Meanwhile another caller goes on, one chat after the
other, so that it shows what the idle ones cost him. The streams are held after their first chunk,
by an upstream that says nothing more until they are let go; they must then end well.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench import candidates, figures, load, machine, wire
from bench.candidates import Candidate, CannotStart

_AT_ONCE = 50
_WARM_UP = 400
_CALLERS = 4
_CHATS = 200
_SPARE_DESCRIPTORS = 1_000
_PATIENCE_S = 120.0
_SOURCES = 8


@dataclass(frozen=True, slots=True)
class Held:
    """What was held in one round, and the gateway's resident memory, MB, before it and with it.

    `p50_ms` and `p99_ms` are the latency of another caller meanwhile.
    """

    what: str
    number: int
    before_mb: float
    with_mb: float
    p50_ms: float
    p99_ms: float

    @property
    def each_kb(self) -> float:
        """What one of them costs, KB (1,000 bytes)."""
        return (self.with_mb - self.before_mb) * 1000 / max(self.number, 1)


class StillUpstream:
    """Stands in for Azure: a chat is answered at once, a stream stands still until `let_go`."""

    def __init__(self) -> None:
        self.let_go, self._one_gone = asyncio.Event(), asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r")[0]
                request = head + await reader.readexactly(int(length))
                if wire.wanted_chunks(request) is None:
                    writer.write(wire.chat_reply())
                    continue
                writer.write(wire.stream_head() + wire.stream_chunk())
                await self.let_go.wait()
                writer.write(wire.stream_end())
        except (EOFError, OSError):
            pass
        finally:
            self._writers.discard(writer)
            self._one_gone.set()
            writer.close()

    async def hang_up(self) -> None:
        """Close what is still kept open between two requests."""
        for writer in self._writers:
            writer.close()
        while self._writers:
            self._one_gone.clear()
            await self._one_gone.wait()


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def dial(candidate: Candidate, number: int) -> Connection:
    """Return a connection; the sources take turns, so that none of them runs out of ports."""
    source = (f"127.0.0.{2 + number % _SOURCES}", 0)
    return await asyncio.open_connection("127.0.0.1", candidate.port, local_addr=source)


@asynccontextmanager
async def holding(
    number: int, begin: Callable[[int], Awaitable[Connection]]
) -> AsyncIterator[list[Connection]]:
    """Hold so many connections, begun a few at a time."""
    held: list[Connection] = []
    try:
        while len(held) < number:
            most = min(_AT_ONCE, number - len(held))
            held += await asyncio.gather(*(begin(each) for each in range(most)))
        yield held
    finally:
        for _, writer in held:
            writer.close()


async def chats(candidate: Candidate, number: int) -> list[float]:
    """Ask one after the other on one connection and return the latencies, ms."""
    request, taken_ms = load.http_request(candidate, wire.chat_request()), []
    reader, writer = await dial(candidate, 0)
    for _ in range(number):
        began = time.monotonic_ns()
        writer.write(request)
        await load.read_reply(reader)
        taken_ms.append((time.monotonic_ns() - began) / 1e6)
    writer.close()
    return taken_ms


async def measure(
    candidate: Candidate, upstream: socket.socket, *, idle: int, streams: int
) -> list[Held]:
    """Return what was held in one round.

    Raises:
        Spoilt: something was not answered well.
    """
    still = StillUpstream()
    server = await asyncio.start_server(still, sock=upstream, backlog=1024)
    ask = (
        f"GET /gateway/v1/me HTTP/1.1\r\nhost: 127.0.0.1\r\napi-key: {candidate.api_key}\r\n\r\n"
    ).encode()
    stream = load.http_request(candidate, wire.stream_request(1))

    async def idler(number: int) -> Connection:
        reader, writer = await dial(candidate, number)
        writer.write(ask)
        await load.read_reply(reader)
        return reader, writer

    async def listener(number: int) -> Connection:
        reader, writer = await dial(candidate, number)
        writer.write(stream)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise load.Spoilt("a stream was refused")
        await reader.readuntil(b"\n\n")
        return reader, writer

    async def look(what: str, number: int, before_mb: float) -> Held:
        taken = await chats(candidate, _CHATS)
        p50, p99 = load.percentile(taken, 0.5), load.percentile(taken, 0.99)
        return Held(what, number, before_mb, _rss_mb(candidate), p50, p99)

    async with asyncio.timeout(_PATIENCE_S), server:
        await asyncio.gather(*(chats(candidate, _WARM_UP // _CALLERS) for _ in range(_CALLERS)))
        seen = [await look("nothing", 0, _rss_mb(candidate))]
        async with holding(streams, listener) as held:
            seen.append(await look("open streams", streams, seen[0].with_mb))
            still.let_go.set()
            for reader, _ in held:
                if wire.DONE.strip() not in await reader.readuntil(b"\r\n0\r\n\r\n"):
                    raise load.Spoilt("a stream ended without its last event")
        before_mb = _rss_mb(candidate)
        async with holding(idle, idler):
            seen.append(await look("idle connections", idle, before_mb))
        await still.hang_up()
    return seen


def table(rounds: Sequence[Sequence[Held]]) -> list[list[str]]:
    """Return the table as rows of cells, its head first; median (least-greatest) of the rounds."""
    rows = [["held", "number", "KB each", "RSS MB", "another's p50 ms", "p99 ms"]]
    for same in zip(*rounds, strict=True):
        first = same[0]
        each = figures.spread([held.each_kb for held in same]).show(1) if first.number else "-"
        rows.append(
            [
                first.what,
                f"{first.number:,}",
                each,
                figures.spread([held.with_mb for held in same]).show(),
                figures.spread([held.p50_ms for held in same]).show(2),
                figures.spread([held.p99_ms for held in same]).show(2),
            ]
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and show; exits with 1 if the gateway could not be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m bench connections",
        description="Measure what an idle connection and an open stream cost the gateway.",
    )
    parser.add_argument("--idle", type=int, default=10_000, help="idle connections (10,000)")
    parser.add_argument("--streams", type=int, default=200, help="open streams (200)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (3)")
    asked = parser.parse_args(arguments)
    most = _raise_limit() - _SPARE_DESCRIPTORS
    if asked.idle > most:
        print(f"only {most:,} idle connections: raise `ulimit -Hn`", file=sys.stderr)
    cores = machine.choose_cores()
    machine.pin(cores.load)
    rounds: list[list[Held]] = []
    try:
        for number in range(asked.rounds):
            print(f"[{number + 1}/{asked.rounds}]", file=sys.stderr, flush=True)
            rounds.append(_round(cores, idle=min(asked.idle, most), streams=asked.streams))
    except (CannotStart, load.Spoilt, OSError, EOFError, TimeoutError) as fault:
        sys.exit(f"bench: {type(fault).__name__}: {fault}")
    print(figures.text_table(table(rounds)))
    said = machine.describe()
    print(f"{said['processor']}, kernel {said['kernel']}, Python {said['python']}")


def _round(cores: machine.Cores, *, idle: int, streams: int) -> list[Held]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name, socket.socket() as upstream:
        upstream.bind(("127.0.0.1", 0))
        port = upstream.getsockname()[1]
        with (
            candidates.gateway(Path(name) / "gateway", port, cores) as candidate,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            return runner.run(measure(candidate, upstream, idle=idle, streams=streams))


def _rss_mb(candidate: Candidate) -> float:
    return machine.rss_mb(machine.process_tree(candidate.pid))


def _raise_limit() -> int:
    """Let this process, and those it starts, open as many files as it may; return how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard
