"""A response fetched again as a stream: seen by its owner, charged no second time."""

from __future__ import annotations

import pytest

from tests.street.living import AUTO, Street

pytestmark = pytest.mark.anyio


async def test_a_background_response_is_resumed_as_a_stream_and_charged_once(
    street: Street,
) -> None:
    client = street.sdk_v1()
    begun = await client.responses.create(
        model="gpt-4o",
        input="[[sim calls=1]]",
        background=True,
        tools=[{"type": "code_interpreter", "container": {"type": "auto"}}],
    )
    await street.advance(60)
    whole = [event.type async for event in await client.responses.retrieve(begun.id, stream=True)]
    rest = [
        event.type
        async for event in await client.responses.retrieve(
            begun.id, stream=True, starting_after=len(whole) - 3
        )
    ]

    assert whole[0] == "response.created"
    assert whole[-1] == "response.completed"
    assert rest == whole[-2:]
    assert (await street.agree())["session_count"] == 1


async def test_a_resumed_stream_tells_of_the_session_before_any_settlement_looks(
    street: Street,
) -> None:
    body = {"model": "gpt-4o", "input": "[[sim calls=1]]", "background": True, "tools": [AUTO]}
    begun = await street.made("/responses", body, surface="v1")
    await street.advance_azure(60)
    answer = await street.v1("GET", f"/responses/{begun['id']}?stream=true")

    assert "response.completed" in answer.text
    assert await street.is_settled()
    assert (await street.agree())["session_count"] == 1


async def test_the_stream_of_another_team_is_no_stream(street: Street) -> None:
    body = {"model": "gpt-4o", "input": "hello", "background": True}
    begun = await street.made("/responses", body, surface="v1")
    mark = await street.mark()
    answer = await street.v1("GET", f"/responses/{begun['id']}?stream=true", team="red")

    assert answer.status_code == 404
    assert await street.journal(mark) == []
