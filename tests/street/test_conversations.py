"""Responses that go on from one another and share a container."""

from __future__ import annotations

from typing import Any

import pytest

from tests.street.evidence import estimates, sessions_by_scope
from tests.street.living import AUTO, Street

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
