"""A cap holds on both sides of midnight."""

from __future__ import annotations

import pytest

from tests.street.conftest import Opener
from tests.street.living import START_S, session_cap, session_caps

pytestmark = pytest.mark.anyio

TO_MIDNIGHT_S = 86_400 - START_S % 86_400


async def test_a_run_of_before_midnight_that_calls_after_it_leaves_no_room_for_another(
    open_street: Opener,
) -> None:
    caps = session_caps(session_cap("one", "team", 1, period="day"))
    async with open_street(policies=caps) as street:
        assistant = await street.assistant()
        late, early = [await street.thread("[[sim calls=1 run_s=400]]") for _ in range(2)]
        await street.until(TO_MIDNIGHT_S - 60)
        await street.start(late, assistant)
        await street.until(TO_MIDNIGHT_S + 60)
        path = f"/threads/{early}/runs"
        refused = await street.dated("POST", path, {"assistant_id": assistant})
        assert refused.status_code == 429

        invoice = await street.agree()
        assert invoice["session_count"] == 1
        posted, reserved = await street.sessions_posted()
        assert posted <= 1
        assert reserved == 0
