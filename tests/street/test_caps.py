"""Caps: what does not fit is refused before it is sent, and what fits is not."""

from __future__ import annotations

import asyncio

import pytest
from openai import RateLimitError

from tests.street.conftest import Opener
from tests.street.living import AUTO, START_S, Street, session_cap, session_caps

pytestmark = pytest.mark.anyio

# The SDK warns of the Assistants API's end, which is what many programs still call.
SPEAKS_OF_ASSISTANTS = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TEAM_DAY = "team-day-two"


def _team_cap(sessions: int) -> dict[str, str]:
    return session_caps(session_cap(TEAM_DAY, "team", sessions, period="day"))


def _budget(usd: str, subject: str = "team") -> dict[str, str]:
    row = (
        f'[[budget]]\nrule = "small-budget"\nsubject = "{subject}"\nperiod = "day"\nusd = "{usd}"\n'
    )
    return {"budgets.toml": row}


@SPEAKS_OF_ASSISTANTS
async def test_the_third_thread_is_refused_once_with_every_figure(open_street: Opener) -> None:
    async with open_street(policies=_team_cap(2)) as street:
        assistant = await street.assistant()
        for _ in range(2):
            await street.call(await street.thread(), assistant)
        third = await street.thread("[[sim calls=1]]")
        mark = await street.mark()

        with pytest.raises(RateLimitError) as stopped:
            await street.sdk().beta.threads.runs.create(third, assistant_id=assistant)

        answer = stopped.value.response
        message = answer.json()["error"]["message"]
        for said in (f"`{TEAM_DAY}`", "`2`", "used `2`", "reserved `0`", "`team blue`"):
            assert said in message
        reset = answer.headers["x-gateway-reset"]
        assert reset in message
        assert reset.endswith("T00:00:00Z")
        assert answer.json()["error"]["code"] == "insufficient_quota"
        assert answer.headers["x-should-retry"] == "false"
        assert not [name for name in answer.headers if name.startswith("retry-after")]
        sent = [row["method"] for row in await street.journal(mark)]
        assert sent.count("POST") == 0
        assert (await street.agree())["session_count"] == 2


@SPEAKS_OF_ASSISTANTS
async def test_the_sdk_asks_only_once_at_a_cap(open_street: Opener) -> None:
    async with open_street(policies=_team_cap(0)) as street:
        assistant, thread = await street.assistant(), await street.thread()
        with pytest.raises(RateLimitError):
            await street.sdk().beta.threads.runs.create(thread, assistant_id=assistant)

        line = 'aoaigw_requests_total{operation="runs.create",status="4xx",team="blue"} 1.0'
        assert line in await street.metrics()


async def test_an_open_session_goes_on_at_the_cap(open_street: Opener) -> None:
    async with open_street(policies=_team_cap(1)) as street:
        assistant, thread = await street.assistant(), await street.thread()
        await street.call(thread, assistant)
        await street.until(2900)
        await street.call(thread, assistant)

        assert (await street.agree())["session_count"] == 1


async def test_a_run_that_may_outlast_the_open_session_needs_room_for_another(
    open_street: Opener,
) -> None:
    async with open_street(policies=_team_cap(1)) as street:
        assistant, thread = await street.assistant(), await street.thread()
        await street.call(thread, assistant)
        await street.until(3001)
        answer = await street.dated("POST", f"/threads/{thread}/runs", {"assistant_id": assistant})

        assert answer.status_code == 429


async def test_what_was_held_and_not_used_is_given_back(open_street: Opener) -> None:
    async with open_street(policies=_team_cap(1)) as street:
        assistant = await street.assistant()
        for _ in range(3):
            thread = await street.thread("[[sim calls=0]]")
            body = {"assistant_id": assistant, "stream": True}
            answer = await street.dated("POST", f"/threads/{thread}/runs", body)
            assert answer.status_code == 200
            assert answer.headers["x-gateway-session"] == "reserved"
            assert await street.sessions_posted() == (0, 0)

        assert (await street.agree())["session_count"] == 0


async def test_a_held_session_counts_until_it_is_known_to_be_unused(open_street: Opener) -> None:
    async with open_street(policies=_team_cap(1)) as street:
        assistant = await street.assistant()
        await street.start(await street.thread("[[sim calls=0]]"), assistant)
        second = await street.thread()
        body = {"assistant_id": assistant}
        refused = await street.dated("POST", f"/threads/{second}/runs", body)
        assert refused.status_code == 429
        assert "reserved `1`" in refused.json()["error"]["message"]
        await street.settled()

        assert (await street.dated("POST", f"/threads/{second}/runs", body)).status_code == 200
        await street.agree()


async def test_thirty_two_at_once_never_overshoot(open_street: Opener) -> None:
    async with open_street(policies=_team_cap(3)) as street:
        assistant = await street.assistant()
        threads = [await street.thread("[[sim calls=1]]") for _ in range(32)]
        answers = await asyncio.gather(
            *(
                street.dated("POST", f"/threads/{thread}/runs", {"assistant_id": assistant})
                for thread in threads
            )
        )

        assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 29
        assert (await street.agree())["session_count"] == 3


async def test_thirty_two_containers_at_once_never_overshoot(open_street: Opener) -> None:
    async with open_street(policies=_team_cap(3)) as street:
        body = {"model": "gpt-4o", "input": "[[sim calls=1]]", "tools": [AUTO]}
        answers = await asyncio.gather(
            *(street.v1("POST", "/responses", body) for _ in range(16)),
            *(street.v1("POST", "/containers", {"name": "x"}) for _ in range(16)),
        )

        assert sum(answer.is_success for answer in answers) == 3
        assert {answer.status_code for answer in answers if answer.is_error} == {429}
        assert (await street.agree())["session_count"] == 3


async def test_a_threads_cap_holds_over_its_whole_life(open_street: Opener) -> None:
    caps = session_caps(session_cap("thread-twice", "thread", 2))
    async with open_street(policies=caps) as street:
        assistant, thread = await street.assistant(), await street.thread()
        for hour in range(2):
            await street.until(hour * 90_000)
            await street.call(thread, assistant)
        await street.until(2 * 90_000)
        body = {"assistant_id": assistant}
        refused = await street.dated("POST", f"/threads/{thread}/runs", body)
        assert refused.status_code == 429
        assert "`thread-twice`" in refused.json()["error"]["message"]
        await street.call(await street.thread(), assistant)

        assert (await street.agree())["session_count"] == 3


async def test_a_thread_cap_of_nothing_forbids_threads_by_every_door(open_street: Opener) -> None:
    caps = session_caps(session_cap("no-sessions", "thread", 0))
    async with open_street(policies=caps) as street:
        assistant, thread = await street.assistant(), await street.thread("[[sim calls=1]]")
        body = {"assistant_id": assistant}
        message = {"role": "user", "content": "[[sim calls=1]]"}
        at_once = {**body, "thread": {"messages": [message]}}
        response = {"model": "gpt-4o", "input": "[[sim calls=1]]", "tools": [AUTO]}
        answers = [
            await street.dated("POST", f"/threads/{thread}/runs", body),
            await street.dated("POST", "/threads/runs", at_once),
            await street.v1("POST", "/responses", response),
            await street.v1("POST", "/containers", {"name": "x"}),
        ]

        assert [answer.status_code for answer in answers] == [429] * 4
        assert (await street.agree())["session_count"] == 0


async def test_a_containers_cap_holds_over_its_whole_life(open_street: Opener) -> None:
    caps = session_caps(session_cap("once", "thread", 1))
    async with open_street(policies=caps) as street:
        made = await street.made("/containers", {"name": "x"}, surface="v1")
        tools = [{"type": "code_interpreter", "container": made["id"]}]
        body = {"model": "gpt-4o", "input": "[[sim calls=1]]", "tools": tools}
        for minute in range(0, 70, 15):
            await street.until(minute * 60)
            answer = await street.v1("POST", "/responses", body)

        assert answer.status_code == 429
        assert "`once`" in answer.json()["error"]["message"]


async def test_the_organisations_cap_is_one_for_all_teams(open_street: Opener) -> None:
    caps = session_caps(session_cap("org-two", "organisation", 2, period="month"))
    async with open_street(policies=caps) as street:
        for team in ("blue", "red"):
            assistant = await street.assistant(team=team)
            await street.call(await street.thread(team=team), assistant, team=team)
        thread = await street.thread(team="red")
        body = {"assistant_id": assistant}
        refused = await street.dated("POST", f"/threads/{thread}/runs", body, team="red")

        assert refused.status_code == 429
        assert "`org-two`" in refused.json()["error"]["message"]
        assert "the organisation" in refused.json()["error"]["message"]


async def test_a_cap_is_open_again_on_the_day_it_said(open_street: Opener) -> None:
    async with open_street(policies=_team_cap(1)) as street:
        assistant = await street.assistant()
        await street.call(await street.thread(), assistant)
        thread = await street.thread("[[sim calls=1]]")
        body = {"assistant_id": assistant}
        refused = await street.dated("POST", f"/threads/{thread}/runs", body)
        assert refused.status_code == 429
        await street.until(86_400 - START_S % 86_400)

        assert (await street.dated("POST", f"/threads/{thread}/runs", body)).status_code == 200
        await street.agree()


@pytest.mark.parametrize("subject", ["team", "organisation"])
async def test_a_budget_refuses_what_could_overshoot_it(open_street: Opener, subject: str) -> None:
    async with open_street(policies=_budget("0.001", subject)) as street:
        path = "/deployments/gpt-4o/chat/completions"
        message = {"role": "user", "content": "[[sim tokens=20/0/20]]"}
        cheap = {"messages": [message], "max_tokens": 20}
        dear = {"messages": [message], "max_tokens": 2000}
        mark = await street.mark()
        refused = await street.dated("POST", path, dear)
        assert refused.status_code == 429
        assert "$0.001" in refused.json()["error"]["message"]
        assert await street.journal(mark) == []
        answers = await asyncio.gather(*(street.dated("POST", path, cheap) for _ in range(16)))

        assert 0 < sum(answer.is_success for answer in answers) < 16
        assert (await street.agree())["total_nano_usd"] <= 1_000_000


async def test_a_price_nobody_knows_is_refused(street: Street) -> None:
    mark = await street.mark()
    answer = await street.dated(
        "POST", "/deployments/mystery/chat/completions", {"messages": [{"role": "user"}]}
    )

    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "unpriced_model"
    assert await street.journal(mark) == []
