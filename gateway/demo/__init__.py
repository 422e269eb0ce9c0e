"""The demo: a story with the real `openai` SDK that ends in a bill, on one machine, without Azure.

Two teams work against a gateway in front of a simulated Azure. Every step is held to what was
promised, and at the end the gateway's bill is compared with the invoice that the simulated Azure
worked out by itself. If anything differs, the demo says so and fails.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import openai
import uvloop

from gateway.control import WallClock
from gateway.core.model import SECOND, Meter
from gateway.demo import analytics, research
from gateway.demo.bill import Bill, differences, read_bill, read_invoice
from gateway.demo.narrator import Narrator
from gateway.demo.scene import Scene, Step, StoryBroke, expect, open_scene
from gateway.demo.stage import TEAMS, Stage, set_stage
from gateway.simulator import LiveSimulator

STORY: Final[tuple[Step, ...]] = (*analytics.STEPS, *research.STEPS)
SESSIONS_TOLD: Final = {"analytics": 2, "research": 3}
REFUSALS_TOLD: Final = {"analytics": 2, "research": 2}

# The story counts sessions per day, so it must not be interrupted by midnight.
_STORY_S_MAX: Final = 15
_DAY_S: Final = 86_400


def run_demo(*, once: bool) -> int:
    """Play the story and print the bill; unless `once`, serve until SIGINT or SIGTERM.

    Return 0, or 1 if the story did not go as told, which is said then.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_perform(Narrator(), once=once))


async def _perform(narrator: Narrator, *, once: bool) -> int:
    loop, stop, is_stopped = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def on_signal() -> None:
        is_stopped.set()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    with tempfile.TemporaryDirectory(prefix="aoai-gateway-demo-") as folder, LiveSimulator() as sim:
        async with set_stage(Path(folder), sim) as stage:
            narrator.open(stage)
            try:
                await asyncio.to_thread(_tell, narrator, stage, is_stopped)
            except (StoryBroke, openai.OpenAIError) as error:
                narrator.failed(str(error))
                return 1
            narrator.places(stage)
            if not once:
                narrator.serving(stage)
                await stop.wait()
    if once:
        narrator.ended()
    else:
        narrator.stopped()
    return 0


def _tell(narrator: Narrator, stage: Stage, is_stopped: threading.Event) -> None:
    """Play every step, then settle the accounts.

    Raises:
        StoryBroke: something did not happen as told.
        OpenAIError: the SDK met what nobody expected.
    """
    _stay_within_a_day(is_stopped)
    with _no_deprecations(), open_scene(stage) as scene:
        for number, step in enumerate(STORY, start=1):
            if is_stopped.is_set():
                raise StoryBroke("it was stopped before the end of the story")
            narrator.step(number, step)
            for line in step.play(scene):
                narrator.came_back(line)
        _settle(narrator, scene)


def _settle(narrator: Narrator, scene: Scene) -> None:
    scene.await_metric("aoaigw_unsettled_intents", 0)
    bill, invoice = read_bill(scene.stage.database), read_invoice(scene.invoice())
    refusals = {team: scene.metric("aoaigw_refusals_total", team=team) for team in TEAMS}
    narrator.bill(bill, refusals)
    found = list(differences(bill, invoice))
    if found:
        raise StoryBroke("; ".join(found))
    expect(that="sessions by team", got=_sessions(bill), wanted=SESSIONS_TOLD)
    expect(that="refusals by team", got=refusals, wanted=REFUSALS_TOLD)
    narrator.agreed(bill, invoice)


def _sessions(bill: Bill) -> dict[str, int]:
    meter = Meter.CODE_INTERPRETER_SESSION
    return {team: line.counts[meter] for team, line in sorted(bill.teams.items())}


def _stay_within_a_day(is_stopped: threading.Event) -> None:
    left_s = _DAY_S - WallClock().now() // SECOND % _DAY_S
    if left_s <= _STORY_S_MAX:
        is_stopped.wait(left_s)


@contextmanager
def _no_deprecations() -> Iterator[None]:
    """Silence what the SDK says at every call of the Assistants API: the story is about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
