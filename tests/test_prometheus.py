"""A real Prometheus reads the metrics and answers what the dashboard and the alerts ask of it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.listener import Door
from tests.conftest import needs_real
from tests.test_dashboards import (
    EXPRESSIONS,
    FOLDER,
    filled_in,
    panel_expressions,
    rule_expressions,
    titled,
    variable_expressions,
)
from tests.test_telemetry import tell_more, told_everything

PATIENCE_S = 60
PAUSE_S = 0.05
SCRAPE_EVERY = "250ms"
SCRAPES = 4
TOKEN = "scrape-token-of-this-test"


class Metrics:
    """Shows a telemetry to whoever brings the token; after each look everything happens again."""

    def __init__(self) -> None:
        self.telemetry = told_everything()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one scrape."""
        answer = Response(status_code=401)
        if Request(scope).headers.get("authorization") == f"Bearer {TOKEN}":
            text = generate_latest(self.telemetry.registry)
            answer = Response(text, media_type=CONTENT_TYPE_LATEST)
            tell_more(self.telemetry)
        await answer(scope, receive, send)


class Prometheus:
    """A running Prometheus, asked over its HTTP API."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, path: str, **query: str) -> Any:
        """Return the `data` of an answer that says success."""
        reply = await self._client.get(f"/api/v1/{path}", params=query)
        answer = reply.json()
        assert (reply.status_code, answer["status"]) == (200, "success"), answer
        assert "warnings" not in answer
        return answer["data"]

    async def query(self, expression: str) -> dict[str, float]:
        """Return the samples an expression gives now, by their labels' values."""
        data = await self.get("query", query=expression)
        assert data["resultType"] == "vector"
        return {
            " ".join(value for _, value in sorted(sample["metric"].items())): float(
                sample["value"][1]
            )
            for sample in data["result"]
        }

    async def wait_for_scrapes(self) -> None:
        """Return once the gateway was scraped `SCRAPES` times and each rule was evaluated."""
        count = "count_over_time(aoaigw_requests_in_flight[1h])"
        async with asyncio.timeout(PATIENCE_S):
            while True:
                scraped = sum((await self.query(count)).values()) >= SCRAPES
                rules = [rule for group in await self._groups() for rule in group["rules"]]
                if scraped and all(rule["health"] != "unknown" for rule in rules):
                    return
                await asyncio.sleep(PAUSE_S)

    async def _groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = (await self.get("rules"))["groups"]
        return groups


def configuration(port: int) -> str:
    """Return what ``dashboards/README.md`` tells to write, in the YAML that is JSON."""
    gateway = {
        "job_name": "aoai-gateway",
        "authorization": {"credentials": TOKEN},
        "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
    }
    paces = {"scrape_interval": SCRAPE_EVERY, "evaluation_interval": SCRAPE_EVERY}
    rules = [str(FOLDER / "rules.yml")]
    return json.dumps({"global": paces, "rule_files": rules, "scrape_configs": [gateway]})


@asynccontextmanager
async def running(program: str, folder: Path, scraped_port: int) -> AsyncIterator[Prometheus]:
    """Run a Prometheus that scrapes a port of this machine, on a port it chooses itself."""
    config, log = folder / "prometheus.yml", folder / "log"
    config.write_text(configuration(scraped_port))
    with log.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            "--web.listen-address=127.0.0.1:0",
            stdout=written,
            stderr=written,
        )
    try:
        base_url = f"http://127.0.0.1:{await listening_port(process, log)}"
        async with httpx.AsyncClient(base_url=base_url, timeout=PATIENCE_S) as client:
            yield Prometheus(client)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def listening_port(process: asyncio.subprocess.Process, log: Path) -> str:
    """Return the port that a Prometheus says it listens on."""
    async with asyncio.timeout(PATIENCE_S):
        while process.returncode is None:
            said = re.search(r'"Listening on" address=127\.0\.0\.1:(\d+)', read(log))
            if said is not None:
                return said[1]
            await asyncio.sleep(PAUSE_S)
    pytest.fail(f"prometheus ended: {read(log)}")


def read(log: Path) -> str:
    return log.read_text()


@pytest.fixture(scope="module")
async def prometheus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    """A Prometheus that has scraped a gateway's metrics a few times."""
    program = shutil.which("prometheus")
    needs_real("prometheus", found=program is not None, how="apt-get install prometheus")
    door = Door(Metrics(), host="127.0.0.1", port=0)
    await door.start()
    try:
        folder = tmp_path_factory.mktemp("prometheus")
        async with running(str(program), folder, door.port) as started:
            await started.wait_for_scrapes()
            yield started
    finally:
        await door.stop()


@pytest.mark.anyio
async def test_the_gateway_is_scraped_with_its_token(prometheus: Prometheus) -> None:
    (target,) = (await prometheus.get("targets"))["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")


@pytest.mark.anyio
@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
@pytest.mark.parametrize("team", [".*", "risk|quant"])
async def test_every_expression_is_answered(
    prometheus: Prometheus, title: str, expression: str, team: str
) -> None:
    await prometheus.query(filled_in(expression, team=team))


@pytest.mark.anyio
@pytest.mark.parametrize(("title", "expression"), [*panel_expressions()])
async def test_every_panel_shows_something_once_everything_has_happened(
    prometheus: Prometheus, title: str, expression: str
) -> None:
    samples = await prometheus.query(filled_in(expression))
    assert samples
    assert max(samples.values()) > 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Sessions open by team", {"risk": 2, "quant": 1}),
        ("Sessions open now", {"": 3}),
        ("Unsettled intents", {"": 3}),
        ("Age of the oldest unsettled intent", {"": 912}),
        ("Estimated share of spend", {"": 0.02}),
        ("Latency", {"": 0.175}),
    ],
)
async def test_a_panel_shows_what_the_gateway_was_told(
    prometheus: Prometheus, title: str, shown: dict[str, float]
) -> None:
    samples = await prometheus.query(filled_in(titled(title)["targets"][0]["expr"]))
    assert samples == pytest.approx(shown)


@pytest.mark.anyio
async def test_a_team_that_is_chosen_is_shown_alone(prometheus: Prometheus) -> None:
    expression = titled("Sessions open by team")["targets"][0]["expr"]
    assert await prometheus.query(filled_in(expression, team="quant")) == {"quant": 1}


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "selector", "label"), [*variable_expressions()])
async def test_a_variable_offers_what_was_seen(
    prometheus: Prometheus, name: str, selector: str, label: str
) -> None:
    query = {"match[]": filled_in(selector)}
    seen = {"team": ["risk"], "operation": ["chat.completions"]}
    assert await prometheus.get(f"label/{label}/values", **query) == seen[name]


@pytest.mark.anyio
async def test_every_alert_is_loaded_and_evaluated(prometheus: Prometheus) -> None:
    groups = (await prometheus.get("rules"))["groups"]
    health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert health == {name: "ok" for name, _ in rule_expressions()}
