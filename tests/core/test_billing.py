"""From replies to bookings: what each status, stream, poll and loss comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from gateway.core.billing import (
    UNKNOWN_LOOK_AFTER,
    Ending,
    Rates,
    asking_calls,
    book_reply,
    call_of,
    lost,
    owned_objects,
    run_charges,
    token_charges,
    was_perhaps_processed,
)
from gateway.core.ledger import Booking, Charge, Intent, IntentState, Outcome, QuoteLine
from gateway.core.metering import Ear, HeardCall, HeardRun
from gateway.core.model import (
    SECOND,
    Confidence,
    Meter,
    ObjectId,
    ObjectKind,
    Origin,
    Scope,
    ScopeKind,
    SessionTerms,
    Surface,
    Trigger,
    Usage,
)
from gateway.core.operations import Bills
from gateway.core.rating import Price, PriceBook
from gateway.core.sessions import Call
from gateway.core.terms import Terms

AT = 1_795_435_200 * SECOND
HEARD_AT = AT + 30 * SECOND
ORIGIN = Origin("blue", "k1", "azure", Surface.DATED, "gpt", "gpt-4o", "req_1")
_ON_CALL = SessionTerms(3600 * SECOND, None, 30_000_000, "session")
TERMS = Terms.everywhere(
    {
        ScopeKind.THREAD: _ON_CALL,
        ScopeKind.PROJECT_THREAD: _ON_CALL,
        ScopeKind.CONTAINER: replace(_ON_CALL, trigger=Trigger.ON_REQUEST),
        ScopeKind.RESPONSE: replace(_ON_CALL, trigger=Trigger.ON_REQUEST),
    }
)
PRICE = Price(
    id="gpt-4o@2024-08-06",
    model="gpt-4o",
    valid_from=0,
    usd_per_mtok={
        Meter.INPUT_TOKENS: Decimal("2.50"),
        Meter.CACHED_INPUT_TOKENS: Decimal("1.25"),
        Meter.OUTPUT_TOKENS: Decimal(10),
    },
    input_tokens_max=128_000,
    output_tokens_max=16_384,
)
BOOK = PriceBook(
    prices={"gpt-4o": (PRICE,)},
    factors={"global-standard": Decimal(1), "standard": Decimal("1.1")},
    terms=TERMS,
)
RATES = Rates(BOOK, {"gpt": "global-standard"})
QUOTE = (
    QuoteLine(Meter.INPUT_TOKENS, 900, 2_250_000, PRICE.id),
    QuoteLine(Meter.OUTPUT_TOKENS, 100, 1_000_000, PRICE.id),
    QuoteLine(Meter.CODE_INTERPRETER_SESSION, 1, 30_000_000, "session-thread"),
)
INTENT = Intent("req_1", AT, "any", ORIGIN, quote=QUOTE)
WITH_TOOL = replace(INTENT, tools_may_call=True)

USAGE = {
    "prompt_tokens": 40,
    "completion_tokens": 8,
    "prompt_tokens_details": {"cached_tokens": 10},
}
# 30 x 2500 + 10 x 1250 + 8 x 10000 nano-USD
CHARGED = [
    (Meter.INPUT_TOKENS, 30, 75_000),
    (Meter.CACHED_INPUT_TOKENS, 10, 12_500),
    (Meter.OUTPUT_TOKENS, 8, 80_000),
]
ESTIMATED = [(Meter.INPUT_TOKENS, 900, 2_250_000), (Meter.OUTPUT_TOKENS, 100, 1_000_000)]

INTERPRETER = [{"type": "code_interpreter"}]


def ear(*documents: dict[str, object]) -> Ear:
    heard = Ear()
    for document in documents:
        heard.hear(document)
    return heard


def run(status: str, **more: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "object": "thread.run",
        "id": "run_1",
        "thread_id": "thread_1",
        "created_at": AT // SECOND,
        "status": status,
        "tools": INTERPRETER,
        "usage": USAGE if status == "completed" else None,
    }
    return fields | more


def step() -> dict[str, object]:
    return {
        "object": "thread.run.step",
        "id": "step_1",
        "thread_id": "thread_1",
        "run_id": "run_1",
        "created_at": AT // SECOND + 2,
        "step_details": {"tool_calls": INTERPRETER},
    }


def response(status: str, **more: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "object": "response",
        "id": "resp_1",
        "created_at": AT // SECOND + 1,
        "status": status,
        "output": [],
        "usage": USAGE if status == "completed" else None,
    }
    return fields | more


ITEM = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1"}


def booked(
    bills: Bills,
    heard: Ear,
    *,
    status: int = 200,
    complete: bool = True,
    intent: Intent = INTENT,
    confidence: Confidence = Confidence.EXACT,
) -> Booking:
    ending = Ending(status=status, complete=complete)
    return book_reply(intent, bills, heard, ending, rates=RATES, at=HEARD_AT, confidence=confidence)


def amounts(charges: tuple[Charge, ...]) -> list[tuple[Meter, int, int]]:
    return [(each.meter, each.quantity, each.nano_usd) for each in charges]


def state(booking: Booking) -> IntentState | None:
    return booking.outcome.state if booking.outcome else None


# tokens in the reply

CHAT = ear({"object": "chat.completion", "usage": USAGE})
NOTHING = ear()
FILTERED = ear({"error": {"code": "content_filter"}})
OTHER = ear({"error": {"code": "context_length_exceeded"}})


@pytest.mark.parametrize("bills", [Bills.CHAT, Bills.EMBEDDINGS])
@pytest.mark.parametrize(
    ("status", "heard", "settled", "charged", "reason"),
    [
        (200, CHAT, IntentState.SETTLED, CHARGED, None),
        (201, CHAT, IntentState.SETTLED, CHARGED, None),
        (200, NOTHING, IntentState.SETTLED, ESTIMATED, "usage_not_readable"),
        (400, FILTERED, IntentState.SETTLED, ESTIMATED[:1], "content_filter"),
        (400, OTHER, IntentState.VOID, [], None),
        (401, NOTHING, IntentState.VOID, [], None),
        (403, NOTHING, IntentState.VOID, [], None),
        (404, NOTHING, IntentState.VOID, [], None),
        (429, NOTHING, IntentState.VOID, [], None),
        (408, NOTHING, IntentState.SETTLED, ESTIMATED, "status_408"),
        (500, NOTHING, IntentState.SETTLED, ESTIMATED, "status_500"),
        (503, NOTHING, IntentState.SETTLED, ESTIMATED, "status_503"),
    ],
)
def test_each_status_is_charged_as_azure_does_or_marked_as_an_estimate(
    bills: Bills,
    status: int,
    heard: Ear,
    settled: IntentState,
    charged: list[tuple[Meter, int, int]],
    reason: str | None,
) -> None:
    booking = booked(bills, heard, status=status)
    assert booking.outcome == Outcome(settled, status=status)
    assert amounts(booking.charges) == charged
    assert {each.reason for each in booking.charges} <= {reason}
    expected = Confidence.EXACT if reason is None else Confidence.ESTIMATED
    assert {each.confidence for each in booking.charges} <= {expected}


def test_what_was_read_of_a_broken_stream_is_charged_exactly() -> None:
    booking = booked(Bills.CHAT, CHAT, complete=False)
    assert amounts(booking.charges) == CHARGED


def test_a_tokens_fact_is_named_after_the_request_and_an_estimate_has_the_same_name() -> None:
    exact, guess = booked(Bills.CHAT, CHAT), booked(Bills.CHAT, NOTHING)
    assert exact.charges[0].fact == guess.charges[0].fact == "request/req_1#input_tokens"
    assert exact.charges[0].at == AT


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, False), (401, False), (404, False), (408, True), (429, False), (500, True), (504, True)],
)
def test_only_a_timeout_and_a_fault_of_azures_leave_open_whether_it_worked(
    status: int, expected: bool
) -> None:
    assert was_perhaps_processed(status) is expected


# runs


def test_a_run_streamed_from_its_beginning_to_its_end_is_settled_at_once() -> None:
    heard = ear(run("queued"), step(), run("completed"))
    booking = booked(Bills.RUN, heard, intent=WITH_TOOL)
    assert booking.outcome == Outcome(IntentState.SETTLED, status=200)
    assert amounts(booking.charges) == CHARGED
    assert booking.charges[0].fact == "run/azure/run_1#input_tokens"
    assert booking.charges[0].origin.run == "run_1"
    assert (booking.run, booking.thread) == ("run_1", "thread_1")
    assert [(call.scope.id, call.key, call.at) for call in booking.calls] == [
        ("thread_1", "step_1", AT + 2 * SECOND)
    ]


@pytest.mark.parametrize(
    ("documents", "complete", "look_at"),
    [
        ([run("queued")], True, HEARD_AT + SECOND),
        ([run("in_progress")], True, HEARD_AT + SECOND),
        ([run("queued"), run("requires_action")], True, HEARD_AT + SECOND),
        ([run("queued"), run("completed")], False, HEARD_AT),
        ([run("completed")], True, HEARD_AT),
        ([run("queued", started_at=1), run("completed")], True, HEARD_AT),
        ([run("queued"), run("completed", usage=None)], True, HEARD_AT),
        ([run("queued"), run("expired")], True, HEARD_AT),
    ],
    ids=[
        "polled",
        "under way",
        "waits for tools",
        "cut",
        "only its end",
        "goes on",
        "no usage",
        "expired",
    ],
)
def test_a_run_that_was_not_heard_whole_awaits_a_look_at_its_steps(
    documents: list[dict[str, object]], complete: bool, look_at: int
) -> None:
    booking = booked(Bills.RUN, ear(*documents), complete=complete, intent=WITH_TOOL)
    assert booking.outcome == Outcome(IntentState.AWAITING, look_at, 200)
    assert booking.charges == ()
    assert booking.run == "run_1"


def test_a_call_heard_before_the_stream_was_cut_is_booked_at_once() -> None:
    booking = booked(Bills.RUN, ear(run("queued"), step()), complete=False, intent=WITH_TOOL)
    assert len(booking.calls) == 1


def test_a_run_that_cannot_call_the_interpreter_is_settled_by_its_end_alone() -> None:
    booking = booked(Bills.RUN, ear(run("completed", tools=[])))
    assert state(booking) is IntentState.SETTLED
    assert amounts(booking.charges) == CHARGED


@pytest.mark.parametrize("status", ["failed", "cancelled", "incomplete"])
def test_a_run_that_failed_is_charged_for_what_it_used(status: str) -> None:
    booking = booked(Bills.RUN, ear(run("queued"), step(), run(status, usage=USAGE)))
    assert amounts(booking.charges) == CHARGED
    assert len(booking.calls) == 1


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Outcome(IntentState.UNKNOWN, HEARD_AT + UNKNOWN_LOOK_AFTER, 200)),
        (500, Outcome(IntentState.UNKNOWN, HEARD_AT + UNKNOWN_LOOK_AFTER, 500)),
        (408, Outcome(IntentState.UNKNOWN, HEARD_AT + UNKNOWN_LOOK_AFTER, 408)),
        (400, Outcome(IntentState.VOID, status=400)),
        (404, Outcome(IntentState.VOID, status=404)),
        (429, Outcome(IntentState.VOID, status=429)),
    ],
)
def test_a_run_of_which_nothing_was_heard_is_looked_for_unless_it_was_refused(
    status: int, expected: Outcome
) -> None:
    booking = booked(Bills.RUN, NOTHING, status=status, intent=WITH_TOOL)
    assert (booking.outcome, booking.charges, booking.calls) == (expected, (), ())


def test_a_run_without_usage_has_no_charges_of_its_own() -> None:
    heard = ear(run("expired")).runs["run_1"]
    assert run_charges(heard, ORIGIN, RATES, Confidence.RECOVERED) == ()


# responses


def test_a_response_is_settled_by_its_end_and_dated_when_azure_created_it() -> None:
    booking = booked(Bills.RESPONSE, ear(response("completed", output=[ITEM])), intent=WITH_TOOL)
    assert booking.outcome == Outcome(IntentState.SETTLED, status=200)
    assert amounts(booking.charges) == CHARGED
    assert {each.fact.partition("#")[0] for each in booking.charges} == {"response/azure/resp_1"}
    assert {each.at for each in booking.charges} == {AT + SECOND}
    assert {each.origin.response for each in booking.charges} == {"resp_1"}
    assert [(call.scope.kind, call.scope.id, call.key) for call in booking.calls] == [
        (ScopeKind.CONTAINER, "cntr_1", "ci_1")
    ]


def test_an_automatic_container_that_was_never_shown_is_one_estimated_session() -> None:
    booking = booked(Bills.RESPONSE, ear(response("completed")), intent=WITH_TOOL)
    (call,) = booking.calls
    assert call.scope == Scope("azure", ScopeKind.RESPONSE, "resp_1")
    assert (call.confidence, call.at) == (Confidence.ESTIMATED, AT + SECOND)
    assert call.reason


def test_a_response_that_cannot_call_has_no_hidden_container() -> None:
    assert booked(Bills.RESPONSE, ear(response("completed"))).calls == ()


@pytest.mark.parametrize(
    ("status", "complete"), [("in_progress", True), ("queued", True), ("completed", False)]
)
def test_a_response_that_has_not_ended_or_was_cut_is_read_later(
    status: str, complete: bool
) -> None:
    booking = booked(Bills.RESPONSE, ear(response(status)), complete=complete, intent=WITH_TOOL)
    assert booking.outcome == Outcome(IntentState.AWAITING, HEARD_AT + SECOND, 200)
    assert (booking.response, booking.charges, booking.calls) == ("resp_1", (), ())


def test_a_response_without_usage_is_an_estimate_at_its_bound() -> None:
    booking = booked(Bills.RESPONSE, ear(response("failed")), intent=WITH_TOOL)
    assert amounts(booking.charges) == ESTIMATED
    assert {each.reason for each in booking.charges} == {"usage_not_readable"}
    assert len(booking.calls) == 1


@pytest.mark.parametrize("bills", [Bills.RESPONSE, Bills.CONTAINER])
@pytest.mark.parametrize("status", [200, 408, 500])
def test_work_of_which_nothing_was_heard_is_estimated_at_its_bound_with_its_session(
    bills: Bills, status: int
) -> None:
    booking = booked(bills, NOTHING, status=status, intent=WITH_TOOL)
    assert state(booking) is IntentState.SETTLED
    assert amounts(booking.charges) == ESTIMATED
    assert [(call.scope.id, call.key, call.confidence) for call in booking.calls] == [
        ("req_1", "lost/req_1", Confidence.ESTIMATED)
    ]


@pytest.mark.parametrize("bills", [Bills.RESPONSE, Bills.CONTAINER])
@pytest.mark.parametrize("status", [400, 401, 404, 429])
def test_work_that_was_refused_costs_nothing(bills: Bills, status: int) -> None:
    booking = booked(bills, NOTHING, status=status, intent=WITH_TOOL)
    assert booking.outcome == Outcome(IntentState.VOID, status=status)
    assert (booking.charges, booking.calls) == ((), ())


def gone(intent: Intent) -> Booking:
    empty = Booking(at=HEARD_AT, terms=TERMS, intent=intent.id)
    return lost(empty, intent, "run_gone", Ending(status=404, complete=True))


def test_lost_work_whose_quote_holds_no_session_has_none() -> None:
    booking = gone(replace(INTENT, quote=QUOTE[:2]))
    assert (amounts(booking.charges), booking.calls) == (ESTIMATED, ())
    assert {each.reason for each in booking.charges} == {"run_gone"}


def test_two_lost_runs_of_one_thread_are_two_calls_in_that_thread() -> None:
    calls = [
        call
        for name in ("req_1", "req_2")
        for call in gone(replace(WITH_TOOL, id=name, thread="thread_1")).calls
    ]
    assert {call.scope for call in calls} == {Scope("azure", ScopeKind.THREAD, "thread_1")}
    assert {call.key for call in calls} == {"lost/req_1", "lost/req_2"}


# containers and the rest


def test_a_container_that_was_created_is_a_session_from_its_creation() -> None:
    heard = ear({"object": "container", "id": "cntr_1", "created_at": AT // SECOND + 3})
    booking = booked(Bills.CONTAINER, heard)
    assert booking.outcome == Outcome(IntentState.SETTLED, status=200)
    assert booking.calls == (
        Call(Scope("azure", ScopeKind.CONTAINER, "cntr_1"), "0-create", AT + 3 * SECOND, ORIGIN),
    )
    assert booking.charges == ()


@pytest.mark.parametrize(
    ("status", "heard", "wanted"),
    [
        (200, ear({"object": "file", "id": "file-1"}), Outcome(IntentState.SETTLED, status=200)),
        (404, NOTHING, Outcome(IntentState.SETTLED, status=404)),
        (429, NOTHING, Outcome(IntentState.SETTLED, status=429)),
        (200, NOTHING, Outcome(IntentState.UNKNOWN, HEARD_AT, 200)),
        (408, NOTHING, Outcome(IntentState.UNKNOWN, HEARD_AT, 408)),
        (500, NOTHING, Outcome(IntentState.UNKNOWN, HEARD_AT, 500)),
    ],
)
def test_a_creation_is_settled_only_if_it_named_what_it_made_or_made_nothing(
    status: int, heard: Ear, wanted: Outcome
) -> None:
    booking = booked(Bills.NOTHING, heard, status=status)
    assert booking.outcome == wanted
    assert (booking.charges, booking.calls) == ((), ())


def test_a_thread_that_was_named_before_its_run_is_where_the_run_is_looked_for() -> None:
    heard = ear({"object": "thread", "id": "thread_7"})
    booking = booked(Bills.RUN, heard, complete=False)
    assert state(booking) is IntentState.UNKNOWN
    assert booking.thread == "thread_7"


def test_what_was_heard_of_belongs_to_the_team_except_runs_which_live_in_threads() -> None:
    heard = ear({"object": "file", "id": "assistant-1"}, run("queued"))
    owned = {(each.object, each.team, each.at) for each in owned_objects(heard, ORIGIN, HEARD_AT)}
    assert owned == {
        (ObjectId("azure", ObjectKind.FILE, "assistant-1"), "blue", HEARD_AT),
        (ObjectId("azure", ObjectKind.THREAD, "thread_1"), "blue", HEARD_AT),
    }


def test_a_heard_call_is_paid_by_the_origin_and_keeps_what_it_knows_already() -> None:
    heard = HeardCall(ScopeKind.THREAD, "thread_1", "step_1", AT)
    call = call_of(heard, replace(ORIGIN, run="run_9"), Confidence.RECOVERED)
    assert (call.origin.run, call.confidence) == ("run_9", Confidence.RECOVERED)
    assert call_of(replace(heard, run="run_1"), ORIGIN, Confidence.EXACT).origin.run == "run_1"


# prices


def test_the_deployment_type_sets_the_price_and_an_unlisted_one_is_global_standard() -> None:
    regional = Rates(BOOK, {"gpt": "standard"})
    usage = Usage(1000, 0, 0)
    prices = [
        token_charges("f", AT, usage, ORIGIN, rates, Confidence.EXACT)[0].nano_usd
        for rates in (regional, RATES, Rates(BOOK, {}))
    ]
    assert prices == [2_750_000, 2_500_000, 2_500_000]


@pytest.mark.parametrize(
    "change", [lambda o: replace(o, model=None), lambda o: replace(o, model="gpt-9")]
)
def test_tokens_without_a_price_are_an_error_and_never_free(
    change: Callable[[Origin], Origin],
) -> None:
    with pytest.raises(LookupError):
        token_charges("f", AT, Usage(1, 0, 0), change(ORIGIN), RATES, Confidence.EXACT)


# terms

ON_CALL = replace(
    RATES, book=replace(BOOK, terms=Terms.everywhere(dict.fromkeys(ScopeKind, _ON_CALL)))
)
ON_REQUEST = replace(
    RATES,
    book=replace(
        BOOK,
        terms=Terms.everywhere(
            dict.fromkeys(ScopeKind, replace(_ON_CALL, trigger=Trigger.ON_REQUEST))
        ),
    ),
)


def test_where_only_calls_are_charged_a_container_that_never_showed_costs_nothing() -> None:
    heard, ending = ear(response("completed")), Ending(200, complete=True)
    for rates, sessions in ((ON_CALL, 0), (RATES, 1)):
        booking = book_reply(WITH_TOOL, Bills.RESPONSE, heard, ending, rates=rates, at=HEARD_AT)
        assert len(booking.calls) == sessions


def test_where_the_request_is_charged_a_run_that_could_call_is_itself_a_call() -> None:
    run = HeardRun("run_1", "thread_1", AT, "completed", usage=Usage(1, 0, 1), may_call=True)
    (call,) = asking_calls(run, ORIGIN, ON_REQUEST, Confidence.EXACT)
    assert (call.scope, call.key, call.at) == (
        Scope("azure", ScopeKind.THREAD, "thread_1"),
        "0-run/run_1",
        AT,
    )
    assert call.origin.run == "run_1"
    assert asking_calls(run, ORIGIN, ON_CALL, Confidence.EXACT) == ()
    assert asking_calls(replace(run, may_call=False), ORIGIN, ON_REQUEST, Confidence.EXACT) == ()


@pytest.mark.parametrize("bills", [Bills.RESPONSE, Bills.CONTAINER])
def test_what_is_booked_carries_the_memory_that_was_asked_for(bills: Bills) -> None:
    intent = replace(WITH_TOOL, memory="4g")
    document = {"object": "container", "id": "cntr_1", "created_at": AT // SECOND}
    replies: list[tuple[Ear, Ending]] = [
        (ear(response("completed")), Ending(200, complete=True)),
        (ear(response("completed", output=[ITEM])), Ending(200, complete=True)),
        (ear(document), Ending(200, complete=True)),
        (ear(), Ending(500, complete=True)),
    ]
    booked_calls = [
        call
        for heard, ending in replies
        for call in book_reply(intent, bills, heard, ending, rates=RATES, at=HEARD_AT).calls
    ]
    assert booked_calls
    assert {call.memory for call in booked_calls} == {"4g"}
