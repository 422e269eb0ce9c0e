"""Holds the ledger against the invoice, fact by fact, after traffic with faults.

What a fault makes unknowable stands in `UNKNOWABLE`, in words. Whatever is not in it must be on the
ledger exactly, whether it was heard or read back; and what is in it is either exact or an estimate
with a reason, never missing.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable

from gateway.core.ledger import balances_of
from gateway.core.model import Confidence, Meter
from gateway.ports import LedgerRow
from gateway.simulator.objects import Run
from gateway.simulator.usage import Usage
from tests.street.evidence import invoiced_tokens, total
from tests.street.living import Street
from tests.street.traffic import RESPONSES, Aimed, Job

# The answer alone names what was made, or what it cost: no later question finds it.
ONLY_IN_THE_ANSWER = frozenset(
    {"chat", "chat streamed", "embeddings", "container", "create and run", *RESPONSES}
)
NEVER_LOST = frozenset({"run streamed", "run polled", "submit outputs", "project run"})
"""Whose thread is known before they begin: their runs and steps can be read whatever happens."""

# By fault: for which operations the outcome cannot be known afterwards, and why not.
UNKNOWABLE: dict[str, tuple[frozenset[str], str]] = {
    "status before": (ONLY_IN_THE_ANSWER, "nobody says whether a 5xx or a 408 is charged"),
    "status after": (ONLY_IN_THE_ANSWER, "the work was done, and the error names nothing of it"),
    "too many": (frozenset(), "a 429 is refused at Azure's door and never charged"),
    "redirect": (frozenset(), "who redirects has not done it"),
    "delay": (frozenset(), "it comes late, and whole"),
    "stall": (frozenset(), "it comes late, and whole; it is waited for without its caller too"),
    "close": (ONLY_IN_THE_ANSWER, "not a byte of the answer came"),
    "reset": (ONLY_IN_THE_ANSWER, "a reset throws away what had arrived and was not yet read"),
    "cut": (
        ONLY_IN_THE_ANSWER - {"response streamed"},
        "half an answer names nothing; the stream of a response names it first of all",
    ),
    "informational": (frozenset(), "what comes before the head changes nothing"),
    "framing": (ONLY_IN_THE_ANSWER, "what is framed wrongly may be cut, or not handed on at all"),
    "gzip": (ONLY_IN_THE_ANSWER, "a meter does not unpack what nobody asked to be packed"),
    "huge header": (ONLY_IN_THE_ANSWER, "a head of that size is not read"),
    "extra": (frozenset(), "what follows an answer does not belong to it"),
    "none": (frozenset(), "nothing went wrong"),
}
HIDDEN = "automatic container, not shown"


def may_be_estimated(job: Job) -> bool:
    """Return whether a fault has made the outcome of the job, or of a try at it, unknowable."""
    if job.collateral:
        return job.operation in ONLY_IN_THE_ANSWER
    operations, _ = UNKNOWABLE[job.fault]
    if job.fault == "cut" and job.operation == "create and run":
        return not job.is_streamed
    return job.operation in operations


class Judge:
    """Everything both sides say, once nothing is under way any more."""

    def __init__(self, street: Street, jobs: Iterable[Job], lines: list[LedgerRow]) -> None:
        self.street = street
        self.sim = street.simulator
        self.lines = lines
        self.jobs = {job.public: job for job in jobs}
        self.by_name = {job.name: job for job in jobs}
        self._facts: dict[str, list[LedgerRow]] = defaultdict(list)
        for row in lines:
            self._facts[row.posting.charge.fact].append(row)
        self.invoice = self.sim.invoice.as_json()

    def judge(self, aimed: Aimed, worked: frozenset[str]) -> frozenset[int]:
        """Compare, and return the jobs whose cost is guessed; `worked` are those Azure did."""
        self._nothing_is_held()
        self._nothing_is_posted_twice()
        self._balances_are_sums()
        estimated = self._estimates_are_excused()
        exact = self._runs(estimated) + self._responses(estimated)
        exact += self._answers(estimated, worked)
        self._evidence_is_whole(exact)
        self._sessions(estimated)
        self._money()
        planned = {job.name: job.mishap.kind for job in self.jobs.values() if job.mishap}
        assert aimed.caught == planned
        return frozenset(estimated)

    # the ledger alone

    def _nothing_is_held(self) -> None:
        with sqlite3.connect(f"file:{self.street.database}?mode=ro", uri=True) as connection:
            held = connection.execute("SELECT * FROM balances WHERE reserved <> 0").fetchall()
            waits = connection.execute("SELECT id FROM intents WHERE closed_at IS NULL").fetchall()
        connection.close()
        assert held == []
        assert waits == []

    def _nothing_is_posted_twice(self) -> None:
        for fact, rows in self._facts.items():
            revisions = [row.posting.revision for row in rows]
            assert revisions == list(range(1, len(rows) + 1)), fact
            assert sum(row.posting.charge.quantity for row in rows) >= 0, fact

    def _balances_are_sums(self) -> None:
        wanted: Counter[tuple[str, str, str, int]] = Counter()
        for row in self.lines:
            for balance, change in balances_of(row.posting):
                name = (balance.account, balance.unit.value, balance.period.value)
                wanted[*name, balance.window_start] += change
        connection = sqlite3.connect(f"file:{self.street.database}?mode=ro", uri=True)
        found = {
            (account, unit, period, start): posted
            for account, unit, period, start, posted in connection.execute(
                "SELECT account, unit, period, window_start, posted FROM balances WHERE posted <> 0"
            )
        }
        connection.close()
        assert found == {name: amount for name, amount in wanted.items() if amount}

    def _estimates_are_excused(self) -> set[int]:
        estimated: set[int] = set()
        for fact, rows in self._facts.items():
            last = rows[-1].posting.charge
            if last.confidence is not Confidence.ESTIMATED or not self._quantity(fact):
                continue
            assert last.reason, fact
            if last.reason == HIDDEN:
                continue
            job = self.jobs[last.origin.key]
            assert may_be_estimated(job), (job, last.reason, job.status, job.body[:300])
            estimated.add(job.number)
        return estimated

    def _quantity(self, fact: str) -> int:
        return sum(row.posting.charge.quantity for row in self._facts.get(fact, []))

    # tokens, fact by fact

    def _usage(self, name: str) -> Usage | None:
        """Return what the ledger has under a name, or None if it has nothing that is known."""
        found = {
            meter: self._quantity(f"{name}#{meter}")
            for meter in (Meter.INPUT_TOKENS, Meter.CACHED_INPUT_TOKENS, Meter.OUTPUT_TOKENS)
            if not self._is_guess(f"{name}#{meter}")
        }
        if not any(found.values()):
            return None
        cached = found.get(Meter.CACHED_INPUT_TOKENS, 0)
        before = found.get(Meter.INPUT_TOKENS, 0) + cached
        return Usage(before, cached, found.get(Meter.OUTPUT_TOKENS, 0))

    def _is_guess(self, fact: str) -> bool:
        rows = self._facts.get(fact)
        return bool(rows) and rows[-1].posting.charge.confidence is Confidence.ESTIMATED  # type: ignore[index]

    def _check(self, name: str, wanted: Usage, job: Job, estimated: set[int]) -> Counter[str]:
        found = self._usage(name)
        if found is None:
            assert job.number in estimated or not wanted.total_tokens, (name, job, wanted)
        else:
            assert found == wanted, (name, job, found, wanted)
            is_guessed = self._is_guess(f"request/{self._request_of(name)}#input_tokens")
            assert not is_guessed, (name, job)
        model = "text-embedding-3-small" if job.operation == "embeddings" else "gpt-4o"
        model = "gpt-4.1" if job.operation in RESPONSES else model
        return Counter(
            {
                f"{model} input_tokens": wanted.input_tokens - wanted.cached_input_tokens,
                f"{model} cached_input_tokens": wanted.cached_input_tokens,
                f"{model} output_tokens": wanted.output_tokens,
            }
        )

    def _request_of(self, name: str) -> str:
        rows = self._facts.get(f"{name}#{Meter.INPUT_TOKENS}") or []
        return rows[-1].posting.charge.origin.request if rows else ""

    def all_runs(self) -> list[Run]:
        """Return every run that Azure has."""
        return [run for thread in self.sim.threads.values() for run in thread.runs.values()]

    def _runs(self, estimated: set[int]) -> Counter[str]:
        spent: Counter[str] = Counter()
        for run in self.all_runs():
            job = self.by_name[run.wire["metadata"]["job"]]
            began = sum(run.shares[: len(run.steps)], Usage())
            if run.wire["status"] == "failed" and not run.steps:
                began = run.plan.usage
            upstream = "foundry" if run.surface == "project" else "azure"
            spent += self._check(f"run/{upstream}/{run.wire['id']}", began, job, estimated)
        return spent

    def _responses(self, estimated: set[int]) -> Counter[str]:
        spent: Counter[str] = Counter()
        for stored in self.sim.responses.values():
            job = self.by_name[stored.wire["metadata"]["job"]]
            wanted = Usage(*job.tokens)
            spent += self._check(f"response/azure/{stored.wire['id']}", wanted, job, estimated)
        return spent

    def _answers(self, estimated: set[int], worked: frozenset[str]) -> Counter[str]:
        """Judge what no object at Azure tells of: chats and embeddings."""
        spent: Counter[str] = Counter()
        requests = {
            row.posting.charge.origin.key: row.posting.charge.origin.request for row in self.lines
        }
        for job in self.jobs.values():
            if job.operation not in ("chat", "chat streamed", "embeddings"):
                continue
            wanted = Usage(*job.tokens) if job.name in worked else Usage()
            if job.operation == "embeddings":
                wanted = Usage(wanted.input_tokens)
            name = f"request/{requests.get(job.public, '')}"
            spent += self._check(name, wanted, job, estimated)
        return spent

    def _evidence_is_whole(self, spent: Counter[str]) -> None:
        """The objects that were judged one by one are all that stands on the invoice."""
        invoiced = {
            f"{model} {meter}": amount
            for model, meters in invoiced_tokens(self.invoice).items()
            for meter, amount in meters.items()
        }
        assert {name: amount for name, amount in spent.items() if amount} == invoiced

    # sessions, fact by fact

    def _sessions(self, estimated: set[int]) -> None:
        known: Counter[tuple[str, str, int]] = Counter()
        guessed: Counter[str] = Counter()
        for fact, rows in self._facts.items():
            charge = rows[-1].posting.charge
            if charge.meter is not Meter.CODE_INTERPRETER_SESSION or not self._quantity(fact):
                continue
            assert charge.scope is not None
            assert self._quantity(fact) == 1, fact
            kind = charge.scope.kind.value.removeprefix("project_")
            if charge.confidence is Confidence.ESTIMATED:
                guessed["thread" if self._is_run(charge.origin.key) else "container"] += 1
            else:
                known[kind, charge.scope.id, charge.at // 1_000_000] += 1
        billed = Counter(
            (row["kind"], row["scope"], row["opened_at"]) for row in self.invoice["sessions"]
        )
        assert known - billed == Counter()
        missing = billed - known
        told = {run.thread.wire["id"]: run.wire["metadata"]["job"] for run in self.all_runs()}
        for kind, scope, _ in missing:
            if kind == "thread":
                assert self.by_name[told[scope]].number in estimated, scope
        for kind in ("thread", "container"):
            assert sum(1 for row in missing.elements() if row[0] == kind) <= guessed[kind]

    def _is_run(self, key: str) -> bool:
        return self.jobs[key].operation == "create and run"

    def _money(self) -> None:
        guessed = [row for row in self.lines if self._is_guess(row.posting.charge.fact)]
        known = total(self.lines) - total(guessed)
        assert known <= self.invoice["total_nano_usd"] <= total(self.lines)
