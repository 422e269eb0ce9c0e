"""What Prometheus is told: names, labels from closed sets, and amounts that add up."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from itertools import product

import pytest
from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.core.catalogue import CATALOGUE
from gateway.core.errors import Code
from gateway.core.model import Confidence, Meter, ScopeKind
from gateway.telemetry import FAULTS, OTHER, Telemetry
from tests.conftest import needs_real

VERSIONS = ("2024-10-21", "2025-04-01-preview")
HOSTILE = (
    "../../etc/passwd",
    'x"} 1\naoaigw_injected 1',
    "gpt-4o-typo",
    "é" * 400,
    "\u0000",
    "2099-01-01",
)


def told_everything(*, posts: int = 1) -> Telemetry:
    """Return a telemetry that has been told of everything there is, `posts` times over.

    Two hundredths of the money are estimates. Two sessions are open at `risk`, one at `quant`.
    """
    telemetry = Telemetry(
        versions=VERSIONS, deployments=["gpt-4o"], teams=["risk", "quant"], upstreams=["sweden"]
    )
    telemetry.in_flight.set(1)
    telemetry.connections_open.set(5)
    telemetry.unsettled.set(3)
    telemetry.unsettled_age.set(912)
    telemetry.open_sessions.labels("risk").set(2)
    telemetry.open_sessions.labels("quant").set(1)
    for _ in range(posts):
        tell_more(telemetry)
    return telemetry


def tell_more(telemetry: Telemetry) -> None:
    """Tell `telemetry` one of everything that is counted."""
    telemetry.answered(team="risk", operation="chat.completions", status=200, seconds=0.2)
    telemetry.refused(team="risk", code="insufficient_quota", rule="team-day")
    telemetry.version(team="risk", asked=VERSIONS[0], sent=VERSIONS[1])
    telemetry.uploaded(team="risk", verdict="permitted", rule="permitted", file_type="csv")
    telemetry.uploaded(team="risk", verdict="refused", rule="extension-not-listed", file_type=None)
    telemetry.upstream_fault(upstream="sweden", kind="maybe_sent")
    telemetry.lost_creation(team="risk", operation="files.create")
    telemetry.closed(by="street", state="settled")
    telemetry.door_refused("websocket")
    telemetry.unmetered(team="risk", feature="file_search")
    post(telemetry, Meter.OUTPUT_TOKENS, quantity=700, nano_usd=38_000_000)
    post(telemetry, Meter.OUTPUT_TOKENS, quantity=-100, nano_usd=-1_000_000)
    post(telemetry, Meter.CODE_INTERPRETER_SESSION, quantity=1, nano_usd=30_000_000)
    post(telemetry, Meter.CODE_INTERPRETER_SESSION, quantity=1, nano_usd=30_000_000)
    post(telemetry, Meter.CODE_INTERPRETER_SESSION, quantity=-1, nano_usd=-30_000_000)
    post(
        telemetry,
        Meter.INPUT_TOKENS,
        quantity=10,
        nano_usd=2_000_000,
        confidence=Confidence.ESTIMATED,
    )


def post(
    telemetry: Telemetry,
    meter: str,
    *,
    quantity: int,
    nano_usd: int,
    deployment: str | None = "gpt-4o",
    confidence: str = Confidence.EXACT,
) -> None:
    """Tell of one line of the ledger, of team `risk`."""
    is_session = meter == Meter.CODE_INTERPRETER_SESSION
    telemetry.posted(
        team="risk",
        deployment=None if is_session else deployment,
        meter=meter,
        scope=ScopeKind.THREAD if is_session else None,
        quantity=quantity,
        nano_usd=nano_usd,
        confidence=confidence,
    )


def families(telemetry: Telemetry) -> Iterator[Metric]:
    """Yield what a scrape shows, read back from its text."""
    yield from text_string_to_metric_families(generate_latest(telemetry.registry).decode())


def series_count(telemetry: Telemetry) -> int:
    return sum(len(family.samples) for family in families(telemetry))


def value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(name, labels)


def test_every_metric_is_named_for_the_gateway_and_explained() -> None:
    for family in families(told_everything()):
        assert family.name.startswith("aoaigw_")
        assert family.documentation.endswith(".")
        assert family.samples, family.name


def test_promtool_has_nothing_to_say_about_the_metrics() -> None:
    promtool = shutil.which("promtool")
    needs_real("promtool", found=promtool is not None, how="apt-get install prometheus")
    text = generate_latest(told_everything().registry)
    done = subprocess.run(
        [str(promtool), "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_no_series_says_when_another_one_began() -> None:
    assert not [f.name for f in families(told_everything()) if f.name.endswith("_created")]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_name_nobody_configured_is_called_other(hostile: str) -> None:
    telemetry = told_everything()
    telemetry.version(team="risk", asked=hostile, sent=hostile)
    post(telemetry, Meter.INPUT_TOKENS, quantity=5, nano_usd=1, deployment=hostile)
    telemetry.upstream_fault(upstream="sweden", kind=hostile)
    assert value(telemetry, "aoaigw_api_versions_total", team="risk", asked=OTHER, sent=OTHER) == 1
    meter = {"team": "risk", "meter": "input_tokens"}
    assert value(telemetry, "aoaigw_tokens_total", deployment=OTHER, **meter) == 5
    assert value(telemetry, "aoaigw_upstream_faults_total", upstream="sweden", kind=OTHER) == 1
    assert hostile.encode() not in generate_latest(telemetry.registry)


def test_ten_thousand_invented_names_make_four_series() -> None:
    telemetry = told_everything()
    before = series_count(telemetry)
    for number in range(10_000):
        telemetry.version(team="risk", asked=f"2099-01-01-{number}", sent=None)
        post(telemetry, Meter.INPUT_TOKENS, quantity=1, nano_usd=1, deployment=f"d{number}")
        post(telemetry, Meter.INPUT_TOKENS, quantity=-1, nano_usd=-1, deployment=f"d{number}")
        telemetry.upstream_fault(upstream="sweden", kind=f"kind{number}")
    assert series_count(telemetry) == before + 4


def test_a_busy_organisation_stays_under_fifteen_thousand_series() -> None:
    teams, deployments = [f"team-{n}" for n in range(20)], [f"model-{n}" for n in range(10)]
    versions = [f"2025-01-{day:02}" for day in range(1, 31)]
    telemetry = Telemetry(
        versions=versions, deployments=deployments, teams=teams, upstreams=["sweden", "france"]
    )
    statuses = (200, 404, 502)
    for team, operation, status in product(teams, CATALOGUE, statuses):
        telemetry.answered(team=team, operation=operation.name, status=status, seconds=1)
    for team, code, rule in product(teams, {code.word for code in Code}, ("a-rule", "b-rule")):
        telemetry.refused(team=team, code=code, rule=rule)
    for team, version in product(teams, versions):
        telemetry.version(team=team, asked=version, sent=versions[0])
    for team, deployment, meter, confidence in product(teams, deployments, Meter, Confidence):
        telemetry.posted(
            team=team,
            deployment=deployment,
            meter=meter,
            scope=ScopeKind.THREAD,
            quantity=1,
            nano_usd=1,
            confidence=confidence,
        )
    assert 5_000 < series_count(telemetry) < 15_000


def test_the_money_of_a_named_team_stands_at_zero_before_anything_is_posted() -> None:
    telemetry = Telemetry(teams=["risk"], upstreams=["sweden"])
    for scope in ("thread", "container", "response"):
        assert value(telemetry, "aoaigw_sessions_opened_total", team="risk", scope=scope) == 0
        assert value(telemetry, "aoaigw_sessions_reversed_total", team="risk", scope=scope) == 0
    for meter, confidence in product(Meter, Confidence):
        known = {"team": "risk", "meter": meter.value}
        spend = "aoaigw_spend_nano_usd_total"
        assert value(telemetry, spend, confidence=confidence.value, **known) == 0
        assert value(telemetry, "aoaigw_spend_credited_nano_usd_total", **known) == 0
    for kind in FAULTS:
        assert value(telemetry, "aoaigw_upstream_faults_total", upstream="sweden", kind=kind) == 0


def test_posted_less_credited_is_what_the_ledger_holds() -> None:
    telemetry = told_everything(posts=3)
    tokens = {"team": "risk", "deployment": "gpt-4o", "meter": "output_tokens"}
    assert value(telemetry, "aoaigw_tokens_total", **tokens) == 3 * 700
    assert value(telemetry, "aoaigw_tokens_credited_total", **tokens) == 3 * 100
    money = {"team": "risk", "meter": "output_tokens"}
    spent = value(telemetry, "aoaigw_spend_nano_usd_total", confidence="exact", **money)
    assert spent == 3 * 38_000_000
    assert value(telemetry, "aoaigw_spend_credited_nano_usd_total", **money) == 3 * 1_000_000
    session = {"team": "risk", "scope": "thread"}
    assert value(telemetry, "aoaigw_sessions_opened_total", **session) == 3 * 2
    assert value(telemetry, "aoaigw_sessions_reversed_total", **session) == 3


def test_sessions_are_not_tokens() -> None:
    telemetry = Telemetry(deployments=["gpt-4o"])
    post(telemetry, Meter.CODE_INTERPRETER_SESSION, quantity=1, nano_usd=30_000_000)
    session = {"team": "risk", "deployment": OTHER, "meter": "code_interpreter_session"}
    assert value(telemetry, "aoaigw_tokens_total", **session) is None


@pytest.mark.parametrize("nothing", [None, ""])
def test_an_api_version_that_is_not_named_is_called_none(nothing: str | None) -> None:
    telemetry = Telemetry(versions=VERSIONS)
    telemetry.version(team="risk", asked=nothing, sent=None)
    labels = {"team": "risk", "asked": "none", "sent": "none"}
    assert value(telemetry, "aoaigw_api_versions_total", **labels) == 1


@pytest.mark.parametrize(
    ("status", "shown"), [(200, "2xx"), (308, "3xx"), (429, "4xx"), (499, "4xx")]
)
def test_a_status_is_shown_by_its_class(status: int, shown: str) -> None:
    telemetry = Telemetry()
    telemetry.answered(team="risk", operation="files.list", status=status, seconds=0.3)
    labels = {"team": "risk", "operation": "files.list", "status": shown}
    assert value(telemetry, "aoaigw_requests_total", **labels) == 1
    bucket = "aoaigw_request_duration_seconds_bucket"
    assert value(telemetry, bucket, operation="files.list", le="0.25") == 0
    assert value(telemetry, bucket, operation="files.list", le="0.5") == 1


def test_two_telemetries_do_not_share_a_registry() -> None:
    one, other = Telemetry(), Telemetry()
    one.closed(by="street", state="void")
    assert value(other, "aoaigw_settlements_total", by="street", state="void") is None
