"""Two loads: requests as fast as they are answered (wrk), and streams at a writer's pace.

wrk is used if it is there. Without it a client of our own does the same; it takes more of the core
that it shares with the upstream, so its figures for requests a second are lower. What a request
costs the candidate in CPU time is hardly touched by that, and the result says which of them it was.

Anything but status 200, and a stream without its end, spoils the round: it is an error and no
figure, because a refusal is cheap.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import uvloop

from bench import wire
from bench.candidates import Candidate

T = TypeVar("T")

_END = b"\r\n0\r\n\r\n"
_PATIENCE_S = 15.0

_SCRIPT = """\
wrk.method = "POST"
wrk.body = {body}
wrk.headers["content-type"] = "application/json"
wrk.headers["api-key"] = {key}
done = function(summary, latency, requests)
  local faults = summary.errors
  io.write(string.format(
    'RESULT {{"requests": %d, "p50_us": %d, "p99_us": %d, "faults": %d}}\\n',
    summary.requests, latency:percentile(50), latency:percentile(99),
    faults.connect + faults.read + faults.write + faults.status + faults.timeout))
end
"""


class Spoilt(Exception):
    """A round that is no measurement, because not everything was answered well."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a load. `done` are requests or chunks.

    `p50_us` and `p99_us` are a request's latency, or how long a chunk was under way from the
    upstream's write to the client's read; `first_p50_us` is the wait for a stream's first chunk.
    """

    done: int
    seconds: float
    p50_us: float
    p99_us: float
    first_p50_us: float | None = None


def has_wrk() -> bool:
    """Whether wrk is installed."""
    return shutil.which("wrk") is not None


def chat(
    candidate: Candidate, *, in_flight: int, seconds: float, folder: Path, with_wrk: bool
) -> Outcome:
    """Keep `in_flight` requests going for about `seconds`.

    Raises:
        Spoilt: not all were answered with 200.
    """
    if with_wrk:
        return _wrk(candidate, in_flight, seconds, folder)
    return _run(_own_chat(candidate, in_flight, seconds))


def streams(candidate: Candidate, *, at_once: int, chunks: int) -> Outcome:
    """Read `at_once` streams of `chunks` chunks each, begun a fraction of a chunk apart.

    Raises:
        Spoilt: one was refused, or did not come whole.
    """
    return _run(_streams(candidate, at_once, chunks))


def percentile(values: list[float], share: float) -> float:
    """Return the smallest of `values` that at least `share` (0 to 1) of them do not exceed.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("there is no percentile of nothing")
    ranked = sorted(values)
    rank = -int(-share * len(ranked) // 1)
    return ranked[max(rank, 1) - 1]


def http_request(candidate: Candidate, body: bytes) -> bytes:
    """Return a request as it goes over the wire."""
    head = (
        f"POST {wire.PATH} HTTP/1.1\r\nhost: 127.0.0.1:{candidate.port}\r\n"
        f"content-type: application/json\r\napi-key: {candidate.api_key}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def parse_wrk(output: str, seconds: float) -> Outcome:
    """Return what our script made wrk say.

    Raises:
        Spoilt: it said nothing, or counted faults.
    """
    for line in output.splitlines():
        if line.startswith("RESULT "):
            said = json.loads(line.removeprefix("RESULT "))
            if said["faults"] or not said["requests"]:
                raise Spoilt(f"`{said['faults']}` faults in `{said['requests']}` requests")
            return Outcome(said["requests"], seconds, said["p50_us"], said["p99_us"])
    raise Spoilt("`wrk` gave no result")


def _run(work: Coroutine[None, None, T]) -> T:
    """Run a load and return what came of it; whatever goes wrong in it is Spoilt."""
    faults: list[BaseException] = []
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except* (Spoilt, OSError, EOFError, ValueError, TimeoutError) as group:
        faults += group.exceptions
    raise Spoilt(str(faults[0]) or type(faults[0]).__name__)


def _wrk(candidate: Candidate, in_flight: int, seconds: float, folder: Path) -> Outcome:
    script = folder / "request.lua"
    body, key = wire.chat_request().decode(), candidate.api_key
    script.write_text(_SCRIPT.format(body=json.dumps(body), key=json.dumps(key)))
    url = f"http://127.0.0.1:{candidate.port}{wire.PATH}"
    # wrk takes whole seconds only.
    duration = max(1, round(seconds))
    command = ["wrk", "-t1", f"-c{in_flight}", f"-d{duration}s", "-s", str(script), url]
    began = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=duration + _PATIENCE_S
    )
    return parse_wrk(done.stdout, time.monotonic() - began)


async def _own_chat(candidate: Candidate, in_flight: int, seconds: float) -> Outcome:
    request = http_request(candidate, wire.chat_request())
    taken_us: list[float] = []
    began = time.monotonic()

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", candidate.port)
        try:
            while time.monotonic() - began < seconds:
                sent = time.monotonic_ns()
                writer.write(request)
                await read_reply(reader)
                taken_us.append((time.monotonic_ns() - sent) / 1e3)
        finally:
            writer.close()

    async with asyncio.timeout(seconds + _PATIENCE_S), asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(caller())
    p50, p99 = percentile(taken_us, 0.5), percentile(taken_us, 0.99)
    return Outcome(len(taken_us), time.monotonic() - began, p50, p99)


async def read_reply(reader: asyncio.StreamReader) -> None:
    """Read one whole reply, of a known length or chunked.

    Raises:
        Spoilt: its status is not 200.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    _demand_ok(head)
    head = head.lower()
    if b"\r\ntransfer-encoding: chunked" in head:
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    else:
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))


async def _streams(candidate: Candidate, at_once: int, chunks: int) -> Outcome:
    request = http_request(candidate, wire.stream_request(chunks))
    transits_us: list[float] = []
    firsts_us: list[float] = []
    began = time.monotonic()

    async def listener(number: int) -> None:
        await asyncio.sleep(number * wire.CHUNK_EVERY_S / at_once)
        reader, writer = await asyncio.open_connection("127.0.0.1", candidate.port)
        try:
            sent = time.monotonic_ns()
            writer.write(request)
            came = await read_stream(reader)
        finally:
            writer.close()
        if len(came) != chunks:
            raise Spoilt(f"`{len(came)}` of `{chunks}` chunks came")
        firsts_us.append((came[0][1] - sent) / 1e3)
        transits_us.extend((at - moment) / 1e3 for moment, at in came)

    async with asyncio.timeout(chunks * wire.CHUNK_EVERY_S + _PATIENCE_S):
        async with asyncio.TaskGroup() as group:
            for number in range(at_once):
                group.create_task(listener(number))
    return Outcome(
        len(transits_us),
        time.monotonic() - began,
        percentile(transits_us, 0.5),
        percentile(transits_us, 0.99),
        percentile(firsts_us, 0.5),
    )


async def read_stream(reader: asyncio.StreamReader) -> list[tuple[int, int]]:
    """Read a stream to its end; return for each chunk when it was written and when it came.

    Both are nanoseconds of the monotonic clock.

    Raises:
        Spoilt: its status is not 200, or it ended without its last event.
    """
    _demand_ok(await reader.readuntil(b"\r\n\r\n"))
    came: list[tuple[int, int]] = []
    held = b"\r\n"
    while True:
        data = await reader.read(65_536)
        at = time.monotonic_ns()
        held += data
        kept_from = 0
        for found in wire.MOMENT.finditer(held):
            came.append((int(found[1]), at))
            kept_from = found.end()
        held = held[kept_from:]
        if held.endswith(_END):
            if wire.DONE.strip() not in held:
                raise Spoilt("a stream ended without its last event")
            return came
        if not data:
            raise Spoilt("a stream broke off")


def _demand_ok(head: bytes) -> None:
    if not head.startswith(b"HTTP/1.1 200 "):
        line = head.partition(b"\r")[0].decode("latin-1")
        raise Spoilt(f"the answer was `{line}`")
