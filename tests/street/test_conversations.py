"""Responses that go on from one another and share a container."""

from __future__ import annotations

from typing import Any

import pytest

from tests.street.conftest import Opener
from tests.street.evidence import estimates, sessions_by_scope
from tests.street.living import AUTO, Street, session_cap, session_caps

pytestmark = pytest.mark.anyio


async def answered(street: Street, text: str, **more: Any) -> str:
    body = {"model": "gpt-4o", "input": text, "tools": [AUTO], **more}
    answer = await street.v1("POST", "/responses", body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def test_later_turns_without_a_call_use_the_container_of_the_first(street: Street) -> None:
    first = await answered(street, "[[sim calls=1]]")
    second = await answered(street, "thanks", previous_response_id=first)
    third = await answered(street, "bye", previous_response_id=second)
    await answered(street, "[[sim calls=1]]", previous_response_id=third)

    assert (await street.agree())["session_count"] == 1


async def test_a_container_that_idled_away_is_not_counted_on(street: Street) -> None:
    first = await answered(street, "[[sim calls=1]]")
    await street.advance(1300)
    await answered(street, "thanks", previous_response_id=first)

    await street.settled()
    lines, invoice = await street.ledger(), await street.invoice()
    assert invoice["session_count"] == sum(sessions_by_scope(lines).values()) == 2
    assert estimates(lines)


ONE = session_caps(session_cap("one", "team", 1, period="day"))


async def tried(street: Street, given: Any, **more: Any) -> int:
    body = {"model": "gpt-4o", "input": given, "tools": [AUTO], **more}
    return (await street.v1("POST", "/responses", body)).status_code


async def kept_to_one(street: Street) -> None:
    await street.settled()
    assert sum(sessions_by_scope(await street.ledger()).values()) == 1
    assert (await street.invoice())["session_count"] == 1


async def test_a_container_named_by_the_caller_in_his_input_opens_no_way_past_the_cap(
    open_street: Opener,
) -> None:
    async with open_street(policies=ONE) as street:
        made = await street.made("/containers", {"name": "x"}, surface="v1")
        echoed = {
            "type": "function_call_output",
            "call_id": "c",
            "output": "x",
            "container_id": made["id"],
        }
        asked = {"role": "user", "content": "[[sim calls=1]]"}
        assert await tried(street, [echoed, asked]) == 429
        await kept_to_one(street)


async def test_a_container_that_was_deleted_opens_no_way_past_the_cap(open_street: Opener) -> None:
    async with open_street(policies=ONE) as street:
        first = await answered(street, "[[sim calls=1]]")
        scopes = sessions_by_scope(await street.ledger())
        ((_, container),) = scopes
        assert (await street.v1("DELETE", f"/containers/{container}")).status_code == 200
        assert await tried(street, "[[sim calls=1]]", previous_response_id=first) == 429
        await kept_to_one(street)


async def test_a_container_with_a_short_life_is_not_counted_on(street: Street) -> None:
    short = {"name": "x", "expires_after": {"anchor": "last_active_at", "minutes": 1}}
    made = await street.made("/containers", short, surface="v1")
    named = [{"type": "code_interpreter", "container": made["id"]}]
    body = {"model": "gpt-4o", "input": "[[sim calls=1]]", "tools": named}
    first = (await street.v1("POST", "/responses", body)).json()["id"]
    await street.advance(90)
    await answered(street, "thanks", previous_response_id=first)

    await street.settled()
    lines, invoice = await street.ledger(), await street.invoice()
    assert invoice["session_count"] == sum(sessions_by_scope(lines).values()) == 2


async def test_what_a_response_said_may_be_passed_back_as_it_came(street: Street) -> None:
    body = {"model": "gpt-4o", "input": "[[sim calls=1 outputs=image]]", "tools": [AUTO]}
    said = (await street.v1("POST", "/responses", body)).json()["output"]
    again = {**body, "input": [*said, {"role": "user", "content": "and now?"}]}
    answer = await street.v1("POST", "/responses", again)

    assert answer.status_code == 200, answer.text


async def a_conversation(street: Street) -> str:
    return str((await street.made("/conversations", {}, surface="v1"))["id"])


@pytest.mark.parametrize("as_object", [False, True])
async def test_later_turns_of_a_conversation_use_the_container_of_the_first(
    street: Street, as_object: bool
) -> None:
    name = await a_conversation(street)
    given = {"id": name} if as_object else name
    await answered(street, "[[sim calls=1]]", conversation=given)
    await answered(street, "thanks", conversation=given)
    await street.advance(600)
    await answered(street, "[[sim calls=2]]", conversation=given)

    assert (await street.agree())["session_count"] == 1


async def test_a_conversation_whose_container_idled_away_is_not_counted_on(street: Street) -> None:
    name = await a_conversation(street)
    await answered(street, "[[sim calls=1]]", conversation=name)
    await street.advance(1300)
    await answered(street, "thanks", conversation=name)

    await street.settled()
    lines, invoice = await street.ledger(), await street.invoice()
    assert invoice["session_count"] == sum(sessions_by_scope(lines).values()) == 2
    assert estimates(lines)


async def test_a_call_taken_out_of_its_conversation_opens_no_way_past_the_meter(
    street: Street,
) -> None:
    name = await a_conversation(street)
    await answered(street, "[[sim calls=1]]", conversation=name)
    items = (await street.v1("GET", f"/conversations/{name}/items")).json()["data"]
    (call,) = [item["id"] for item in items if item["type"] == "code_interpreter_call"]
    gone = await street.v1("DELETE", f"/conversations/{name}/items/{call}")
    assert gone.status_code == 200, gone.text
    await answered(street, "thanks", conversation=name)

    await street.settled()
    lines, invoice = await street.ledger(), await street.invoice()
    assert invoice["session_count"] == sum(sessions_by_scope(lines).values()) == 2


async def test_another_conversation_has_not_the_container_of_the_first(street: Street) -> None:
    await answered(street, "[[sim calls=1]]", conversation=await a_conversation(street))
    await answered(street, "thanks", conversation=await a_conversation(street))

    await street.settled()
    lines, invoice = await street.ledger(), await street.invoice()
    assert invoice["session_count"] == sum(sessions_by_scope(lines).values()) == 2
