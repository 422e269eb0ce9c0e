"""Session terms on the street: dated, by region, by the minute, by memory, and by request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.app import reload
from gateway.core.model import SECOND, Meter
from gateway.settings import Settings, SettingsFaults, load_settings
from gateway.simulator import SessionTerms, SimulatorConfig
from tests.street.conftest import Opener
from tests.street.living import (
    AUTO,
    AZURE_KEY,
    START_S,
    Street,
    session_cap,
    session_caps,
    write_price_book,
)

pytestmark = pytest.mark.anyio

DAY_S = 86_400
TOMORROW = datetime.fromtimestamp(START_S + DAY_S, tz=UTC).date()
TOMORROW_S = int(datetime(TOMORROW.year, TOMORROW.month, TOMORROW.day, tzinfo=UTC).timestamp())
KINDS = ("thread", "project_thread", "container", "response")
TRIGGERS = {"container": "on_request", "response": "on_request"}


def entry(scope: str, **fields: object) -> str:
    """Return one entry as a price book has it."""
    memory = fields.pop("memory", None)
    said = {"scope": scope, "valid_from": "2024-01-01", "active_s": 3600, **fields}
    said.setdefault("trigger", TRIGGERS.get(scope, "on_call"))
    if "usd_per_minute" not in said:
        said.setdefault("usd", "0.03")
    lines = [f"{name} = {_toml(value)}" for name, value in said.items()]
    if isinstance(memory, dict):
        lines += ["[session.memory]", *(f'{tier} = "{usd}"' for tier, usd in memory.items())]
    return "[[session]]\n" + "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).replace("'", '"')


def book(*more: str, **changed: dict[str, object]) -> str:
    """Return terms for every kind of scope, some of them changed, and further entries."""
    return "".join([*(entry(kind, **changed.get(kind, {})) for kind in KINDS), *more])


def config(**terms: SessionTerms) -> SimulatorConfig:
    known = {
        "thread": SessionTerms(3600, None),
        "container": SessionTerms(3600, 1200),
        "project": SessionTerms(3600, 1800),
    }
    return SimulatorConfig(wall_clock=False, run_s=10, start_s=START_S, session_terms=known | terms)


async def respond(street: Street, text: str = "[[sim calls=1]]", **more: Any) -> dict[str, Any]:
    body = {"model": "gpt-4o", "input": text, "tools": [AUTO], **more}
    return await street.made("/responses", body, surface="v1")


def settings_of(street: Street) -> Settings:
    return load_settings(street.folder / "gateway.toml", {"AZURE_KEY": AZURE_KEY})


async def session_amounts(street: Street) -> list[int]:
    return [
        row.posting.charge.nano_usd
        for row in await street.ledger()
        if row.posting.charge.meter is Meter.CODE_INTERPRETER_SESSION
    ]


async def test_a_new_price_holds_for_sessions_that_open_from_its_day_on_and_no_others(
    open_street: Opener,
) -> None:
    dearer = SessionTerms(3600, None, nano_usd=50_000_000)
    azure = config(thread=SessionTerms(3600, None, until_s=TOMORROW_S, then=dearer))
    async with open_street(sessions=book(), config=azure) as street:
        assistant, old = await street.assistant(), await street.thread()
        until_midnight = TOMORROW_S - START_S
        await street.until(until_midnight - 600)
        await street.call(old, assistant)
        write_price_book(street.folder, book(entry("thread", valid_from=str(TOMORROW), usd="0.05")))
        assert reload(street.gateway.house, settings_of(street))
        before = await session_amounts(street)
        assert before == [30_000_000]

        # News of the old session on the new day, and of a call that opens the next.
        await street.until(until_midnight + 600)
        await street.call(old, assistant)
        await street.call(await street.thread(), assistant)
        assert await session_amounts(street) == [30_000_000, 50_000_000]
        await street.until(until_midnight + 3600)
        await street.call(old, assistant)

        assert (await street.agree())["session_count"] == 3
        assert await session_amounts(street) == [30_000_000, 50_000_000, 50_000_000]


async def test_terms_that_contradict_one_another_leave_the_running_ones_in_force_and_stop_a_start(
    open_street: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_street(sessions=book()) as street:
        rules = street.gateway.house.rules
        faulty = book(entry("thread", usd="0.05"), entry("thread", idle_s=5, memory={"8g": "1"}))
        write_price_book(street.folder, faulty)
        assert not reload(street.gateway.house, settings_of(street))
        assert street.gateway.house.rules is rules
        told = caplog.text
        for place in ("session[5].idle_s", "session[5].memory.8g"):
            assert f"price book: {place}" in told
    with pytest.raises(SettingsFaults) as caught:
        async with open_street(sessions=faulty):
            pass
    assert len(caught.value.faults) == 2


async def test_an_upstream_has_the_terms_of_its_region(open_street: Opener) -> None:
    regional = entry("thread", valid_from="2025-01-01", usd="0.033", regions=["swedencentral"])
    azure = config(thread=SessionTerms(3600, None, nano_usd=33_000_000))
    async with open_street(sessions=book(regional), region="swedencentral", config=azure) as street:
        await street.call(await street.thread(), await street.assistant())

        assert await session_amounts(street) == [33_000_000]
        await street.agree()


MINUTE = {"usd_per_minute": "0.0015", "minutes_min": 5}
BY_MINUTE = SessionTerms(3600, 1200, nano_usd=1_500_000, minutes_min=5)


async def test_by_the_minute_a_session_costs_what_it_was_used_for(open_street: Opener) -> None:
    terms = book(container=dict(MINUTE), response=dict(MINUTE))
    async with open_street(sessions=terms, config=config(container=BY_MINUTE)) as street:
        first = await respond(street)
        assert await session_amounts(street) == [5 * 1_500_000]
        await street.advance(3 * 60)
        second = await respond(street, previous_response_id=first["id"])
        assert await session_amounts(street) == [5 * 1_500_000]
        await street.advance(9 * 60)
        await respond(street, previous_response_id=second["id"])

        invoice = await street.agree()
        assert await session_amounts(street) == [5 * 1_500_000, 8 * 1_500_000]
        assert [row["nano_usd"] for row in invoice["sessions"]] == [13 * 1_500_000]


async def test_by_the_minute_the_whole_active_hour_is_held_before_it_is_spent(
    open_street: Opener,
) -> None:
    terms = book(container=dict(MINUTE), response=dict(MINUTE))
    cap = '[[budget]]\nrule = "little"\nsubject = "team"\nusd = "0.089"\nperiod = "day"\n'
    made = {"budgets.toml": f"={cap}"}
    async with open_street(
        sessions=terms, config=config(container=BY_MINUTE), policies=made
    ) as street:
        # Sixty minutes come to 0.09 USD.
        answer = await street.v1("POST", "/containers", {"name": "x"})
        assert answer.status_code == 429
        assert "little" in answer.json()["error"]["message"]
        assert (await street.agree())["session_count"] == 0


TIERS = {"4g": "0.12", "16g": "0.48"}
SIMULATED_TIERS = {"4g": 120_000_000, "16g": 480_000_000}


async def test_more_memory_is_permitted_where_it_has_a_price_and_stays_with_its_container(
    open_street: Opener,
) -> None:
    terms = book(container={"memory": TIERS}, response={"memory": TIERS})
    azure = config(container=SessionTerms(3600, 1200, memory=SIMULATED_TIERS))
    async with open_street(sessions=terms, config=azure) as street:
        made = await street.made("/containers", {"name": "x", "memory_limit": "16g"}, surface="v1")
        named = [{"type": "code_interpreter", "container": made["id"]}]
        await respond(street, tools=named)
        auto = {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}
        first = await respond(street, tools=[auto])
        # An hour later the same container opens another session, at its own price.
        for _ in range(4):
            await street.advance(1000)
            first = await respond(street, tools=[AUTO], previous_response_id=first["id"])

        refused = await street.v1("POST", "/containers", {"name": "x", "memory_limit": "64g"})
        assert refused.status_code == 403
        assert "`64g`" in refused.json()["error"]["message"]
        await street.agree()
        assert await session_amounts(street) == [480_000_000, 120_000_000, 120_000_000]


async def test_a_container_with_more_memory_that_never_shows_costs_its_tier(
    open_street: Opener,
) -> None:
    terms = book(container={"memory": TIERS}, response={"memory": TIERS})
    azure = config(container=SessionTerms(3600, 1200, memory=SIMULATED_TIERS))
    async with open_street(sessions=terms, config=azure) as street:
        auto = {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}
        await respond(street, "thanks", tools=[auto])
        await street.settled()
        assert await session_amounts(street) == [120_000_000]
        assert (await street.invoice())["sessions"][0]["nano_usd"] == 120_000_000


@pytest.mark.parametrize("background", [False, True])
async def test_the_tier_of_a_response_is_known_however_it_is_heard(
    open_street: Opener, background: bool
) -> None:
    terms = book(container={"memory": TIERS}, response={"memory": TIERS})
    azure = config(container=SessionTerms(3600, 1200, memory=SIMULATED_TIERS))
    async with open_street(sessions=terms, config=azure) as street:
        auto = {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}
        made = await respond(street, tools=[auto], background=background)
        await street.advance_azure(30)
        assert (await street.v1("GET", f"/responses/{made['id']}")).status_code == 200
        await street.agree()
        assert await session_amounts(street) == [120_000_000]


@pytest.mark.parametrize("stream", [False, True])
async def test_where_the_request_is_charged_a_run_that_calls_nothing_opens_a_session(
    open_street: Opener, stream: bool
) -> None:
    azure = config(thread=SessionTerms(3600, None, on_request=True))
    terms = book(thread={"trigger": "on_request"})
    async with open_street(sessions=terms, config=azure) as street:
        assistant, thread = await street.assistant(), await street.thread("[[sim calls=0]]")
        await street.start(thread, assistant) if not stream else await street.dated(
            "POST", f"/threads/{thread}/runs", {"assistant_id": assistant, "stream": True}
        )
        assert (await street.agree())["session_count"] == 1


async def test_where_only_calls_are_charged_a_container_costs_nothing_until_one(
    open_street: Opener,
) -> None:
    azure = config(container=SessionTerms(3600, 1200, on_request=False))
    terms = book(container={"trigger": "on_call"}, response={"trigger": "on_call"})
    async with open_street(sessions=terms, config=azure) as street:
        await street.made("/containers", {"name": "x"}, surface="v1")
        await respond(street, "thanks")
        assert (await street.agree())["session_count"] == 0
        await respond(street)
        assert (await street.agree())["session_count"] == 1


async def test_a_price_that_changes_at_midnight_is_held_in_full_by_a_run_that_may_see_it(
    open_street: Opener,
) -> None:
    terms = book(entry("thread", valid_from=str(TOMORROW), usd="5"))
    caps = session_caps(session_cap("one", "team", 9, period="day"))
    async with open_street(sessions=terms, policies=caps) as street:
        assistant, thread = await street.assistant(), await street.thread("[[sim calls=0]]")
        await street.until(TOMORROW_S - START_S - 300)
        await street.start(thread, assistant)
        intent = (await street.gateway.house.store.due(at=1 << 62, limit=1))[0]
        held = [
            line.nano_usd for line in intent.quote if line.meter is Meter.CODE_INTERPRETER_SESSION
        ]
        assert held == [5_000_000_000]
        assert intent.at // SECOND < TOMORROW_S
