"""The admin plane: health for whoever runs the process, metrics for Prometheus. Never the data
plane.

    GET /health/live    204 as long as the process answers
    GET /health/ready   204 when requests can be decided: the ledger answers and can be written
    GET /metrics        Prometheus text; with a scrape token, only to who shows it
"""

from __future__ import annotations

import hmac

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.core.model import SECOND
from gateway.house import House
from gateway.ports import StoreUnavailable


def admin_app(house: House, scrape_token: str | None) -> Starlette:
    """Return the admin plane's application."""

    async def live(_: Request) -> Response:
        return Response(status_code=204)

    async def ready(_: Request) -> Response:
        try:
            await house.store.unsettled()
            await house.store.probe()
        except StoreUnavailable:
            told = "the ledger does not answer, or cannot be written\n"
            return PlainTextResponse(told, status_code=503)
        return Response(status_code=204)

    async def metrics(request: Request) -> Response:
        shown = request.headers.get("authorization", "").encode()
        wanted = f"Bearer {scrape_token}".encode()
        if scrape_token is not None and not hmac.compare_digest(shown, wanted):
            return PlainTextResponse("a scrape token is needed\n", status_code=401)
        await _look_around(house)
        return Response(generate_latest(house.telemetry.registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/metrics", metrics),
        ]
    )


async def _look_around(house: House) -> None:
    """Set the gauges that are read, not counted."""
    telemetry, now = house.telemetry, house.clock.now()
    try:
        count, oldest = await house.store.unsettled()
        open_now = await house.store.open_sessions(now)
    except StoreUnavailable:
        return
    telemetry.unsettled.set(count)
    telemetry.unsettled_age.set(0 if oldest is None else max(0, now - oldest) / SECOND)
    telemetry.show_open_sessions(open_now)
