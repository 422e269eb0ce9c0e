"""Assembly: the data plane behind its front door, and the control plane of tests and demos.

GET  /simulator/invoice          what was charged so far
GET  /simulator/clock            {"now_s": n}
POST /simulator/clock            {"advance_s": n} or {"now_s": n}, never back
GET  /simulator/journal?after=N  a list of the requests received after number N
POST /simulator/faults           something goes wrong with the next requests, see `mishaps`
POST /simulator/release          let every reply that stalls go on
POST /simulator/reset            a new life; replies that stall go on
"""

from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from gateway.simulator.clock import MICROSECONDS
from gateway.simulator.config import SimulatorConfig
from gateway.simulator.front import FrontDoor
from gateway.simulator.state import Simulator

_DEFAULT = SimulatorConfig()


def create_simulator(config: SimulatorConfig = _DEFAULT) -> Starlette:
    """Return the simulated resource as an ASGI application; `app.state.simulator` is its state."""
    sim = Simulator(config)
    control = _Control(sim)
    app = Starlette(
        routes=[
            Route("/simulator/invoice", control.show_invoice),
            Route("/simulator/clock", control.show_clock),
            Route("/simulator/clock", control.set_clock, methods=["POST"]),
            Route("/simulator/journal", control.show_journal),
            Route("/simulator/faults", control.lay_fault, methods=["POST"]),
            Route("/simulator/release", control.release, methods=["POST"]),
            Route("/simulator/reset", control.reset, methods=["POST"]),
            Mount("/", app=FrontDoor(sim)),
        ]
    )
    app.state.simulator = sim
    return app


class _Control:
    """The control plane: unauthenticated, and never journalled."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim

    async def show_invoice(self, _request: Request) -> Response:
        self._sim.observe()
        return JSONResponse(self._sim.invoice.as_json())

    async def show_clock(self, _request: Request) -> Response:
        return self._clock()

    async def set_clock(self, request: Request) -> Response:
        try:
            self._move(orjson.loads(await request.body()))
        except ValueError as error:
            return JSONResponse({"error": {"message": str(error)}}, status_code=400)
        self._sim.observe()
        self._sim.announce_news()
        return self._clock()

    async def show_journal(self, request: Request) -> Response:
        after = request.query_params.get("after", "0")
        if not after.isascii() or not after.isdigit():
            return JSONResponse({"error": {"message": "`after` is not a number"}}, status_code=400)
        return JSONResponse(self._sim.journal.after(int(after)))

    async def lay_fault(self, request: Request) -> Response:
        try:
            self._sim.ambushes.lay(orjson.loads(await request.body()))
        except ValueError as error:
            return JSONResponse({"error": {"message": str(error)}}, status_code=400)
        return JSONResponse({"waiting": len(self._sim.ambushes.waiting)})

    async def release(self, _request: Request) -> Response:
        return JSONResponse({"released": self._sim.release()})

    async def reset(self, _request: Request) -> Response:
        self._sim.reset()
        self._sim.release()
        self._sim.announce_news()
        return self._clock()

    def _move(self, body: Any) -> None:
        match body:
            case {"advance_s": int() | float() as seconds}:
                self._sim.clock.advance(round(seconds * MICROSECONDS))
            case {"now_s": int() | float() as seconds}:
                self._sim.clock.set_s(seconds)
            case _:
                raise ValueError("send `advance_s` or `now_s`, in seconds")

    def _clock(self) -> Response:
        return JSONResponse({"now_s": self._sim.clock.now_s()})
