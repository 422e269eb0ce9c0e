"""256 runs released at once at the edge of a cap: refused if and only if it did not fit then.

The store's own journal is the witness: every decision is written down in the transaction that made
it, with the balance that it saw.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from gateway.core.ledger import ORGANISATION, Balance, Claim, Intent, OverCap
from gateway.stores import intents, rows
from tests.street.conftest import Opener
from tests.street.living import DEADLINE_S, VERSION, Street, session_cap

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

AT_ONCE = 256
USED = 10
DAY_CAP, MONTH_CAP = 100, 90
RUNS = f"/runs?api-version={VERSION}"


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision of the store: the claims with what they found, and the one that did not fit."""

    intent: Intent
    seen: tuple[tuple[Claim, int, int], ...]
    over: OverCap | None

    @property
    def fits(self) -> bool:
        """Whether posted, reserved and bound together stay below every cap."""
        taken: Counter[Balance] = Counter()
        for claim, posted, reserved in self.seen:
            if posted + reserved + taken[claim.balance] + claim.bound > claim.cap:
                return False
            taken[claim.balance] += claim.bound
        return True


@dataclass
class Witness:
    """Writes down what the store decides, in its own transaction."""

    decisions: list[Decision] = field(default_factory=list)

    def reserve(
        self, connection: sqlite3.Connection, intent: Intent, claims: Sequence[Claim], **how: Any
    ) -> None:
        seen = tuple((claim, *_standing(connection, claim.balance)) for claim in claims)
        try:
            _reserve(connection, intent, claims, **how)
        except intents.NotReserved as refused:
            self.decisions.append(Decision(intent, seen, refused.over))
            raise
        self.decisions.append(Decision(intent, seen, None))


_reserve = intents.reserve


def _standing(connection: sqlite3.Connection, balance: Balance) -> tuple[int, int]:
    query = """
    SELECT posted, reserved FROM balances WHERE account = :account AND unit = :unit
    AND period = :period AND window_start = :window_start
    """
    found = connection.execute(query, rows.values_of_balance(balance)).fetchone()
    return (0, 0) if found is None else (found[0], found[1])


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Witness:
    """Return a witness of all that is reserved."""
    found = Witness()
    monkeypatch.setattr(intents, "reserve", found.reserve)
    return found


CAPS = {
    "sessions of a day": (
        {"code_interpreter.toml": "=cap_status = 429\n"
         + session_cap("day", "team", DAY_CAP, period="day")},
        DAY_CAP,
    ),
    "sessions of the organisation": (
        {"code_interpreter.toml": "=cap_status = 429\n"
         + session_cap("day", "team", DAY_CAP, period="day")
         + session_cap("all", "organisation", MONTH_CAP, period="month")},
        MONTH_CAP,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "is_streamed"), [("sessions of a day", True), ("sessions of the organisation", False)]
)
async def test_256_runs_at_the_edge_of_a_cap_are_refused_if_and_only_if_they_do_not_fit(
    open_street: Opener, witness: Witness, name: str, is_streamed: bool
) -> None:
    policies, cap = CAPS[name]
    async with open_street(policies=policies) as street:
        street.gateway.settlement._pause_s = 0.0
        assistant = await street.assistant()
        await asyncio.gather(*(_used(street, assistant) for _ in range(USED)))
        # Every third run does not call: what it held is free again when it has ended.
        said = ["[[sim calls=0]]" if at % 3 == 0 else "[[sim calls=1]]" for at in range(AT_ONCE)]
        threads = await asyncio.gather(*(street.thread(text) for text in said))
        await street.settled()
        mark, before = await street.mark(), len(witness.decisions)
        body = {"assistant_id": assistant, "stream": is_streamed}
        answers = await _released_at_once(street, threads, body)

        decisions = witness.decisions[before:]
        assert len(decisions) == AT_ONCE
        for decision in decisions:
            assert decision.fits == (decision.over is None), decision
            if decision.over is not None:
                over = decision.over
                assert (over.claim, over.posted, over.reserved) in decision.seen
                assert over.posted + over.reserved + over.claim.bound > over.claim.cap
        refused = sum(1 for decision in decisions if decision.over is not None)
        assert Counter(answer.status_code for answer in answers) == {
            200: AT_ONCE - refused,
            429: refused,
        }
        assert refused >= AT_ONCE - cap - AT_ONCE // 3
        _what_azure_got_is_what_was_let_through(await street.journal(mark), threads, answers)
        during = (await street.invoice())["session_count"]
        assert during <= cap
        invoice = await street.agree()
        assert USED < invoice["session_count"] <= cap
        accounts = {claim.balance.account for each in decisions for claim, *_ in each.seen}
        assert (ORGANISATION in accounts) == (name == "sessions of the organisation")


async def test_what_a_refused_one_could_not_have_fits_once_the_holds_are_free(
    open_street: Opener, witness: Witness
) -> None:
    policies, cap = CAPS["sessions of a day"]
    async with open_street(policies=policies) as street:
        street.gateway.settlement._pause_s = 0.0
        assistant = await street.assistant()
        threads = await asyncio.gather(*(street.thread("[[sim calls=0]]") for _ in range(AT_ONCE)))
        body = {"assistant_id": assistant}
        answers = await _released_at_once(street, threads, body)
        assert sum(answer.status_code == 200 for answer in answers) == cap
        await street.settled()
        left = [t for t, answer in zip(threads, answers, strict=True) if answer.status_code == 429]
        again = await _released_at_once(street, left, body)

        assert sum(answer.status_code == 200 for answer in again) == cap
        assert all(decision.fits == (decision.over is None) for decision in witness.decisions)
        assert (await street.agree())["session_count"] == 0


async def _used(street: Street, assistant: str) -> None:
    await street.call(await street.thread(), assistant)


async def _released_at_once(
    street: Street, threads: Sequence[str], body: dict[str, Any]
) -> list[httpx.Response]:
    """Have all connections open first, and then send all requests in one go."""
    unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(
        base_url=street.url,
        headers={"api-key": street.keys["blue"]},
        timeout=DEADLINE_S,
        limits=unlimited,
    ) as client:
        return list(
            await asyncio.gather(
                *(client.post(f"/openai/threads/{thread}{RUNS}", json=body) for thread in threads)
            )
        )


def _what_azure_got_is_what_was_let_through(
    journal: list[dict[str, Any]], threads: Sequence[str], answers: Sequence[httpx.Response]
) -> None:
    sent = {row["target"].split("/")[3] for row in journal if row["method"] == "POST"}
    let_through = {
        thread for thread, answer in zip(threads, answers, strict=True) if answer.status_code == 200
    }
    assert sent == let_through
