"""Plays jobs of `traffic` on a street: each caller on connections of his own, as rough as told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.control import issue_key
from gateway.core.callers import KeyRing
from gateway.settings import load_pepper, load_settings
from gateway.tasks import Tasks
from tests.street.living import AUTO, AZURE_KEY, DEADLINE_S, INTERPRETER, TEAMS, VERSION, Street
from tests.street.traffic import NAMED_BY, ON_THREADS, RESPONSES, Aimed, Epoch, Job

AT_ONCE = 32
TRIES_MAX = 6
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
_ENDED = ("completed", "failed", "incomplete", "cancelled", "expired")
_QUERY = f"?api-version={VERSION}"
_PROJECT = "/api/projects/books"


@dataclass(frozen=True, slots=True)
class Heard:
    """What a caller got: status 0 if he left or the connection broke before."""

    status: int = 0
    body: bytes = b""

    def json(self) -> dict[str, Any]:
        """Return the body as an object, empty if it is none."""
        try:
            found = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return found if isinstance(found, dict) else {}


class Players:
    """All callers of one street."""

    def __init__(self, street: Street) -> None:
        self.street = street
        self.played: list[Job] = []
        self.statuses: list[tuple[int, bytes]] = []
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._arrivals: dict[str, asyncio.Event] = {}
        self._assistants: dict[tuple[str, str], str] = {}
        loop = asyncio.get_running_loop()
        self._tasks = Tasks()

        def told(name: str) -> None:
            loop.call_soon_threadsafe(self._has_come, name)

        self.aimed = Aimed(told)
        street.simulator.ambushes = self.aimed

    def _has_come(self, name: str) -> None:
        self._come(name).set()

    def _come(self, name: str) -> asyncio.Event:
        return self._arrivals.setdefault(name, asyncio.Event())

    async def enlist(self, jobs: Iterable[Job]) -> None:
        """Give every job a key of its own, and the teams the assistants they need."""
        street, house = self.street, self.street.gateway.house
        settings = load_settings(street.folder / "gateway.toml", {"AZURE_KEY": AZURE_KEY})
        pepper, wanted = load_pepper(settings), list(jobs)
        issued = await asyncio.gather(
            *(
                issue_key(house.store, job.team, clock=house.clock, pepper=pepper, teams=TEAMS)
                for job in wanted
            )
        )
        for job, key in zip(wanted, issued, strict=True):
            job.key, job.public = key.key, key.public
        house.ring = KeyRing(await house.store.keys(), pepper)
        for team in TEAMS:
            for surface in ("dated", "project"):
                body = {"model": "gpt-4o", "tools": [INTERPRETER, LOOK]}
                made = await street.made("/assistants", body, team=team, surface=surface)
                self._assistants[team, surface] = made["id"]

    async def play(self, epoch: Epoch) -> None:
        """Play both halves; returns when nothing of either is unsettled."""
        begins_s = (await self.street.azure.get("/simulator/clock")).json()["now_s"]
        await self._half(epoch.first)
        kept = [
            job for job in epoch.first if job.fault == "none" and job.operation != "run streamed"
        ]
        for at_s in epoch.kept_up_s:
            await self._until(begins_s + at_s)
            await self._half([_again(job, at_s) for job in kept], is_short=True)
        await self._until(begins_s + epoch.apart_s)
        await self._half(epoch.second)

    async def _until(self, at_s: float) -> None:
        now_s = (await self.street.azure.get("/simulator/clock")).json()["now_s"]
        assert now_s <= at_s, f"{now_s - at_s} s too late"
        await self.street.advance(at_s - now_s)

    async def _half(self, jobs: list[Job], *, is_short: bool = False) -> None:
        self.played += jobs
        await self._together(self._prepare(job) for job in jobs)
        await self._released(self._begin(job) for job in jobs)
        if is_short:
            await self.street.settled()
            return
        await self.street.advance(15)
        await self._released(self._submit(job) for job in jobs)
        await self.street.advance(15)
        await self._together(self._poll(job) for job in jobs)
        # A run whose outputs never arrived waits for them until it expires.
        await self.street.advance(600)
        await self.street.metrics()
        await self.street.settled(step_s=16)

    async def _together(self, work: Any) -> None:
        async def one(task: Any) -> None:
            async with self._gate:
                await task

        await asyncio.gather(*(one(task) for task in work))

    async def _released(self, work: Any) -> None:
        """Do work of which some stalls at Azure; what stalls is let go again and again."""
        doing = self._tasks.start(self._together(work))
        while not doing.done():
            await asyncio.wait({doing}, timeout=0.05)
            await self.street.azure.post("/simulator/release")
        await doing
        async with asyncio.timeout(DEADLINE_S):
            while self._in_flight():
                await self.street.azure.post("/simulator/release")
                await asyncio.sleep(0.01)

    def _in_flight(self) -> bool:
        registry = self.street.gateway.house.telemetry.registry
        return bool(registry.get_sample_value("aoaigw_requests_in_flight"))

    # one job

    async def _prepare(self, job: Job) -> None:
        if job.operation not in (*ON_THREADS, "submit outputs"):
            return
        if job.partner is not None and job.partner.thread is not None:
            job.thread = job.partner.thread
            return
        root = self._root(job)
        made = await self._surely(job, "POST", f"{root}/threads{self._query(job)}", {})
        job.thread = made.json()["id"]

    async def _begin(self, job: Job) -> None:
        path, body = self._request(job)
        if job.operation == "submit outputs":
            heard = await self._surely(job, "POST", path, body)
            job.run = heard.json()["id"]
            return
        await self._billed(job, path, body)

    async def _billed(self, job: Job, path: str, body: dict[str, Any]) -> None:
        if job.mishap is not None:
            self.aimed.mishaps[job.name] = job.mishap
        leave = job.manner if job.manner.startswith("leaves") else None
        heard = await self._ask(job, "POST", path, body, named=job.name, leave=leave)
        while not self._come(job.name).is_set():
            # It was to go over a connection that a fault of somebody else had just ended.
            assert heard.status in (0, 502, 504), (job, heard)
            job.collateral += 1
            assert job.collateral < TRIES_MAX, job
            heard = await self._ask(job, "POST", path, body, named=job.name, leave=leave)
        job.status, job.body = heard.status, heard.body
        if heard.status:
            self.statuses.append((heard.status, heard.body))
        said = heard.json()
        if job.operation in (*ON_THREADS, "create and run"):
            job.run, job.thread = job.run or said.get("id"), job.thread or said.get("thread_id")
        if job.operation == "container":
            job.container = said.get("id")
        shown = re.search(rb'"container_id":"(cntr_\w+)"', heard.body)
        if shown is not None:
            job.container = shown[1].decode()

    async def _submit(self, job: Job) -> None:
        if job.operation != "submit outputs":
            return
        path = f"/openai/threads/{job.thread}/runs/{job.run}"
        heard = await self._surely(job, "GET", path + _QUERY)
        wanted = heard.json()["required_action"]["submit_tool_outputs"]["tool_calls"]
        outputs = [{"tool_call_id": call["id"], "output": "7"} for call in wanted]
        body = {"tool_outputs": outputs, "stream": job.is_streamed}
        await self._billed(job, f"{path}/submit_tool_outputs{_QUERY}", body)

    async def _poll(self, job: Job) -> None:
        if job.manner != "polls":
            return
        if job.operation in RESPONSES:
            name = Heard(200, job.body).json().get("id")
            if job.status == 200 and name is not None:
                heard = await self._surely(job, "GET", f"/openai/v1/responses/{name}")
                assert heard.json()["status"] in _ENDED, heard
            return
        if job.run is not None and job.thread is not None:
            path = f"{self._root(job)}/threads/{job.thread}/runs/{job.run}"
            await self._surely(job, "GET", path + self._query(job))
            await self._surely(job, "GET", f"{path}/steps{self._query(job)}&limit=1")

    async def _arrival(self, named: str, reader: asyncio.StreamReader) -> None:
        """Wait until Azure has the request, or the gateway has answered without that."""
        waits: set[asyncio.Task[Any]] = {
            self._tasks.start(self._come(named).wait()),
            self._tasks.start(reader.read(1)),
        }
        _, waiting = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    async def _surely(
        self, job: Job, method: str, path: str, body: dict[str, Any] | None = None
    ) -> Heard:
        """Send what no fault is aimed at; another's fault may still hit it, then send it again."""
        for _ in range(TRIES_MAX):
            heard = await self._ask(job, method, path, body)
            if heard.status not in (502, 504):
                break
        assert heard.status == 200, (job, heard)
        return heard

    def _root(self, job: Job) -> str:
        return _PROJECT if job.operation == "project run" else "/openai"

    def _query(self, job: Job) -> str:
        return "?api-version=v1" if job.operation == "project run" else _QUERY

    def _request(self, job: Job) -> tuple[str, dict[str, Any]]:
        said = {"role": "user", "content": job.directive}
        match job.operation:
            case "chat" | "chat streamed":
                path = f"/openai/deployments/gpt-4o/chat/completions{_QUERY}"
                return path, {"messages": [said], "max_tokens": 300, "stream": job.is_streamed}
            case "embeddings":
                body = {"model": "text-embedding-3-small", "input": [[1] * job.tokens[0]]}
                return "/openai/v1/embeddings", body
            case "container":
                return "/openai/v1/containers", {"name": job.name}
            case "create and run":
                body = self._run(job) | {"thread": {"messages": [said]}}
                return f"/openai/threads/runs{_QUERY}", body
            case _ if job.operation in RESPONSES:
                return "/openai/v1/responses", self._response(job)
        body = self._run(job) | {"additional_messages": [said]}
        return f"{self._root(job)}/threads/{job.thread}/runs{self._query(job)}", body

    def _run(self, job: Job) -> dict[str, Any]:
        surface = "project" if job.operation == "project run" else "dated"
        return {
            "assistant_id": self._assistants[job.team, surface],
            "metadata": {"job": job.name},
            "max_completion_tokens": 300,
            "stream": job.is_streamed and job.operation != "submit outputs",
        }

    def _response(self, job: Job) -> dict[str, Any]:
        tool: dict[str, Any] = AUTO
        if job.partner is not None and job.partner.container is not None:
            tool = {"type": "code_interpreter", "container": job.partner.container}
            job.container, job.calls = job.partner.container, max(1, job.calls)
        return {
            "model": "gpt-4.1",
            "input": job.directive,
            "tools": [tool],
            "metadata": {"job": job.name},
            "max_output_tokens": 300,
            "background": job.operation == "response in background",
            "stream": job.is_streamed,
        }

    # the wire

    async def _ask(
        self,
        job: Job,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        named: str | None = None,
        leave: str | None = None,
    ) -> Heard:
        """Send one request on a connection of its own; leave when it is time to."""
        content = b"" if body is None else orjson.dumps(body)
        lines = [f"{method} {path} HTTP/1.1", "host: gateway", f"api-key: {job.key}"]
        if body is not None:
            lines += ["content-type: application/json", f"content-length: {len(content)}"]
        if named is not None:
            lines.append(f"{NAMED_BY}: {named}")
        head = "\r\n".join([*lines, "connection: close", "", ""]).encode()
        async with asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.street.gateway.data_port, limit=1 << 20
            )
            try:
                writer.write(head + content)
                if leave == "leaves on arrival" and named is not None:
                    await self._arrival(named, reader)
                    return Heard()
                if leave is not None:
                    await reader.read(1)
                    return Heard()
                return _parsed(await _all_of(reader))
            finally:
                writer.transport.abort()


def _again(job: Job, at_s: int) -> Job:
    """Return a job that goes on in the thread or container of another, without a fault."""
    return Job(
        number=job.number + at_s * 1000,
        operation=job.operation,
        fault="none",
        mishap=None,
        manner="stays",
        is_streamed=job.is_streamed,
        calls=1,
        tokens=job.tokens,
        team=job.team,
        key=job.key,
        public=job.public,
        partner=job,
    )


async def _all_of(reader: asyncio.StreamReader) -> bytes:
    found = bytearray()
    while True:
        try:
            piece = await reader.read(1 << 16)
        except ConnectionError:
            return bytes(found)
        if not piece:
            return bytes(found)
        found += piece


def _parsed(answer: bytes) -> Heard:
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 "):
        return Heard()
    if b"transfer-encoding: chunked" in head.lower():
        body = b"".join(_chunks(body))
    return Heard(int(head[9:12]), body)


def _chunks(body: bytes) -> Iterable[bytes]:
    while body:
        size, _, rest = body.partition(b"\r\n")
        count = int(size or b"0", 16)
        if not count:
            return
        yield rest[:count]
        body = rest[count + 2 :]
