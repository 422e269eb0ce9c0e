"""Plays a developer's program against a street and holds what it saw to what must be true.

A program is a process of its own, with an environment of its own, and prints a JSON line for each
step. A step it did not print did not happen.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.clients.programs.steps import TABLE
from tests.street.evidence import invoiced_sessions
from tests.street.living import AZURE_KEY, VERSION, Street, living, session_cap, session_caps

ROOT = Path(__file__).resolve().parents[2]
PROGRAM_S = 60.0
# What the gateway refuses in a whole story: a program, a session too many, and what is deleted.
REFUSED_TWICE_AND_GONE = {"unsupported_file_type": 1, "insufficient_quota": 1, "not_found": 1}

Steps = Mapping[str, Mapping[str, Any]]


@asynccontextmanager
async def street_with_one_session(folder: Path) -> AsyncIterator[Street]:
    """Yield a street on which each team may open one session a day."""
    cap = session_caps(session_cap("one-a-day", "team", 1, period="day"))
    async with living(folder, policies=cap) as street:
        yield street


async def play(street: Street, command: Sequence[str | Path]) -> Steps:
    """Run a program to its end and return what each of its steps saw, in order."""
    async with asyncio.timeout(PROGRAM_S), runs_going_on(street):
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            # Neither a proxy nor a key of the machine may find its way into the program.
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(street.folder)},
            cwd=street.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            said, complained = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, complained.decode()
    return {line["step"]: line for line in map(json.loads, said.splitlines())}


@asynccontextmanager
async def runs_going_on(street: Street) -> AsyncIterator[None]:
    """Have both clocks move by a second each time that somebody asks how a run is doing.

    Runs are then polled more than once and yet end, however fast this machine is.
    """
    ticking = asyncio.create_task(_tick(street))  # noqa: TID251 - kept until it ends
    try:
        yield
    finally:
        ticking.cancel()


async def _tick(street: Street) -> None:
    mark = await street.mark()
    while True:
        rows = await street.journal(mark)
        if any(row["method"] == "GET" and "/runs/run_" in row["target"] for row in rows):
            await street.advance(1)
        mark = rows[-1]["n"] if rows else mark
        await asyncio.sleep(0.01)


def saw_an_upload(steps: Steps) -> None:
    """Hold the upload to what was sent, and the refusal of a program to what it must say."""
    upload = steps["upload"]
    assert (upload["bytes"], upload["filename"]) == (len(TABLE), "table.csv")
    assert upload["purpose"] == "assistants"
    assert steps["list files"]["ids"] == [upload["id"]]
    refused = steps["refused upload"]
    assert (refused["status"], refused["code"]) == (415, "unsupported_file_type")
    assert "(rule `extension-not-listed`)" in refused["message"]
    assert "`.exe`" in refused["message"]


def saw_the_cap(steps: Steps) -> None:
    """Hold the refusal at the cap to the exception that a developer expects."""
    refused = steps["session cap"]
    assert refused["error"] == "RateLimitError"
    assert (refused["status"], refused["code"]) == (429, "insufficient_quota")
    assert "`one-a-day`" in refused["message"]


def saw_assistants(steps: Steps) -> None:
    """Hold the steps of the Assistants story to what the simulated Azure does."""
    assert steps["assistant"]["tools"] == ["code_interpreter"]
    assert steps["thread"]["id"].startswith("thread_")
    assert steps["message"]["files"] == [steps["upload"]["id"]]
    events = steps["streamed run"]["events"]
    assert events[0] == "thread.run.created"
    assert "thread.run.step.delta" in events
    assert {"thread.message.delta", "thread.run.completed"} <= set(events)
    assert steps["streamed run"]["status"] == steps["polled run"]["status"] == "completed"
    assert steps["streamed run"]["tokens"] > 0
    assert steps["polled run"]["tokens"] > 0
    assert steps["steps"]["kinds"] == ["tool_calls", "message_creation"]
    assert steps["messages"]["roles"] == ["user", "assistant", "assistant"]
    assert steps["messages"]["pictures"] == 2


def saw_deletions(steps: Steps, count: int) -> None:
    """Hold deletions to having happened: what is gone is not found any more."""
    assert steps["delete"]["deleted"] == [True] * count
    assert steps["after delete"]["error"] == "NotFoundError"


def saw_containers(steps: Steps) -> None:
    """Hold the steps of the container story to what the simulated Azure does."""
    assert steps["container response"]["status"] == "completed"
    assert steps["container response"]["kinds"] == ["code_interpreter_call", "message"]
    assert steps["container files"]["drawn"] in steps["container files"]["ids"]


def saw_chat(steps: Steps) -> None:
    """Hold chat, plain and streamed, and embeddings to what the simulated Azure answers."""
    assert steps["chat"]["text"] == steps["chat streamed"]["text"] != ""
    assert steps["chat"]["tokens"] > 0
    assert steps["chat streamed"]["chunks"] > 1
    assert steps["embeddings"]["vectors"] == 2
    assert steps["embeddings"]["numbers"] == 1536


def saw_responses(steps: Steps) -> None:
    """Hold a response, plain and streamed, to what the simulated Azure answers."""
    assert steps["response"]["status"] == "completed"
    assert steps["response"]["text"]
    events = steps["response streamed"]["events"]
    assert (events[0], events[-1]) == ("response.created", "response.completed")
    assert "response.output_text.delta" in events


async def saw_the_same_file(street: Street, steps: Steps) -> None:
    """Hold the downloaded drawing to the bytes that Azure has under that name."""
    seen = steps["download"]
    surface = "openai" if seen["file"].startswith("files/") else "openai/v1"
    address = f"{street.simulator_url}/{surface}/{seen['file']}/content"
    query = {"api-version": VERSION} if surface == "openai" else {}
    kept = await street.azure.get(address, headers={"api-key": AZURE_KEY}, params=query)
    assert kept.status_code == 200, kept.text
    assert seen["bytes"] == len(kept.content) > 0
    assert seen["sha256"] == hashlib.sha256(kept.content).hexdigest()


async def went_well(street: Street, *, sessions: int, refusals: Mapping[str, int]) -> None:
    """Prove that Azure did all it was asked, that nobody tried in vain, and that the bill is right.

    `refusals` are all that the gateway answered itself, by code: one that is retried counts twice.
    """
    rows = await street.journal()
    # A program never arrives, so all that did arrive was carried out.
    assert [row["target"] for row in rows if not row["worked"]] == []
    assert await refusals_by_code(street) == dict(refusals)
    invoice = await street.agree()
    assert invoiced_sessions(invoice).total() == sessions


async def refusals_by_code(street: Street) -> dict[str, int]:
    """Return how many requests the gateway itself refused, by the code it answered."""
    found: dict[str, int] = {}
    for family in text_string_to_metric_families(await street.metrics()):
        for sample in family.samples:
            if sample.name == "aoaigw_refusals_total" and sample.value:
                code = sample.labels["code"]
                found[code] = found.get(code, 0) + round(sample.value)
    return found
