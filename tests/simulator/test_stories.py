"""Stories with literal dollars: what the invoice charges, and when."""

import httpx
import pytest

from gateway.simulator import LiveSimulator, SessionTerms, SimulatorConfig
from tests.simulator.resource import AUTO, START_S, Resource

SESSION = 30_000_000  # $0.03 in nano-USD
FREE = "[[sim tokens=0/0/0 run_s=0]]"
CALL = "[[sim calls=1 outputs=logs tokens=0/0/0 run_s=0]]"


@pytest.mark.parametrize(
    ("second_call_after_s", "sessions"),
    [(0, 1), (1, 1), (3599, 1), (3600, 2), (3601, 2), (86_400, 2)],
)
def test_a_call_within_the_hour_is_free_and_one_after_it_is_not(
    azure: Resource, second_call_after_s: int, sessions: int
) -> None:
    assistant, thread = azure.assistant(), azure.thread("hello")
    azure.ask(thread, assistant, CALL)
    azure.advance(second_call_after_s)
    azure.ask(thread, assistant, CALL)
    invoice = azure.invoice()
    assert invoice["session_count"] == sessions
    assert invoice["total_nano_usd"] == sessions * SESSION


def test_calls_in_between_do_not_prolong_the_hour(azure: Resource) -> None:
    assistant, thread = azure.assistant(), azure.thread("hello")
    for _ in range(3):  # at 0:00, 0:40 and 1:20
        azure.ask(thread, assistant, CALL)
        azure.advance(2400)
    rows = azure.invoice()["sessions"]
    assert [(row["opened_at"] - START_S, row["calls"]) for row in rows] == [(0, 2), (4800, 1)]


@pytest.mark.parametrize(("pause_s", "sessions"), [(1799, 1), (1800, 2)])
def test_a_session_may_be_told_to_end_by_idling(pause_s: int, sessions: int) -> None:
    terms = {
        "thread": SessionTerms(active_s=3600, idle_s=1800),
        "container": SessionTerms(active_s=3600, idle_s=1200),
    }
    config = SimulatorConfig(wall_clock=False, session_terms=terms)
    with LiveSimulator(config) as live, Resource(live.url) as azure:
        assistant, thread = azure.assistant(), azure.thread("hello")
        azure.ask(thread, assistant, CALL)
        azure.advance(pause_s)
        azure.ask(thread, assistant, CALL)
        assert azure.invoice()["session_count"] == sessions


def priced(**terms: SessionTerms) -> SimulatorConfig:
    plain = {"thread": SessionTerms(3600, None), "container": SessionTerms(3600, 1200)}
    return SimulatorConfig(wall_clock=False, session_terms=plain | terms)


def test_a_new_price_is_charged_for_sessions_that_open_from_then_on() -> None:
    dearer = SessionTerms(3600, None, nano_usd=50_000_000)
    terms = SessionTerms(3600, None, until_s=START_S + 3600, then=dearer)
    with LiveSimulator(priced(thread=terms)) as live, Resource(live.url) as azure:
        assistant, thread = azure.assistant(), azure.thread("hello")
        for pause_s in (1800, 1800, 0):  # at 0:00, 0:30 and 1:00
            azure.ask(thread, assistant, CALL)
            azure.advance(pause_s)
        assert [row["nano_usd"] for row in azure.invoice()["sessions"]] == [SESSION, 50_000_000]


def test_by_the_minute_every_minute_begun_until_the_last_call_is_charged_and_at_least_five() -> (
    None
):
    terms = SessionTerms(3600, None, nano_usd=1_000, minutes_min=5)
    with LiveSimulator(priced(thread=terms)) as live, Resource(live.url) as azure:
        assistant, thread = azure.assistant(), azure.thread("hello")
        costs = []
        for pause_s in (299, 1, 1500):  # at 0:00:00, 0:04:59 and 0:05:00
            azure.ask(thread, assistant, CALL)
            costs.append(azure.invoice()["total_nano_usd"])
            azure.advance(pause_s)
        assert costs == [5_000, 5_000, 6_000]


def test_two_threads_are_two_sessions(azure: Resource) -> None:
    assistant = azure.assistant()
    for _ in range(2):
        azure.ask(azure.thread("hello"), assistant, CALL)
    invoice = azure.invoice()
    assert len({row["scope"] for row in invoice["sessions"]}) == 2
    assert invoice["total_nano_usd"] == 60_000_000


def test_seven_calls_of_one_run_are_one_session(azure: Resource) -> None:
    run = azure.ask(azure.thread("hi"), azure.assistant(), "[[sim calls=7 run_s=0 tokens=0/0/0]]")
    assert run["status"] == "completed"
    invoice = azure.invoice()
    assert [row["calls"] for row in invoice["sessions"]] == [7]
    assert invoice["total_nano_usd"] == SESSION


def test_a_run_that_never_calls_the_tool_costs_no_session(azure: Resource) -> None:
    run = azure.ask(azure.thread("hello"), azure.assistant(), FREE)
    assert run["status"] == "completed"
    assert run["tools"] == [{"type": "code_interpreter"}]
    assert azure.invoice()["total_nano_usd"] == 0


def test_a_call_without_any_output_is_charged(azure: Resource) -> None:
    thread, assistant = azure.thread("hello"), azure.assistant()
    azure.say(thread, "[[sim calls=1 outputs=none tokens=0/0/0]]")
    run = azure.start(thread, assistant)
    azure.finish(run)
    steps = azure.dated("GET", f"{run}/steps").json()["data"]
    (tool_call,) = steps[-1]["step_details"]["tool_calls"]
    assert tool_call["code_interpreter"]["outputs"] == []
    assert azure.invoice()["total_nano_usd"] == SESSION


def test_a_failed_run_is_charged_for_its_call_and_its_tokens(azure: Resource) -> None:
    script = "[[sim calls=1 fail=1 tokens=279/0/20 run_s=0]]"
    run = azure.ask(azure.thread("hello"), azure.assistant(), script)
    assert run["status"] == "failed"
    assert run["last_error"]["code"] == "rate_limit_exceeded"
    assert run["usage"]["prompt_tokens"] == 279
    # 279 x $2.50 and 20 x $10 per million, and $0.03.
    assert azure.invoice()["total_nano_usd"] == 697_500 + 200_000 + SESSION


def test_a_run_is_charged_when_its_step_begins_and_not_before(azure: Resource) -> None:
    thread, assistant = azure.thread("compute this [[sim tokens=0/0/0]]"), azure.assistant()
    run = azure.start(thread, assistant)
    azure.advance(2)
    assert azure.dated("GET", run).json()["status"] == "in_progress"
    assert azure.invoice()["session_count"] == 0
    azure.advance(2)
    (line,) = azure.invoice()["sessions"]
    (step,) = azure.dated("GET", f"{run}/steps").json()["data"]
    assert line["opened_at"] == step["created_at"] == START_S + 3


def test_a_cancelled_run_is_charged_for_what_it_called(azure: Resource) -> None:
    thread, assistant = azure.thread("compute this [[sim tokens=100/0/10]]"), azure.assistant()
    run = azure.start(thread, assistant)
    azure.advance(4)
    assert azure.dated("POST", f"{run}/cancel").json()["status"] == "cancelling"
    ended = azure.dated("GET", run).json()
    assert (ended["status"], ended["usage"]["prompt_tokens"]) == ("cancelled", 50)
    assert azure.invoice()["total_nano_usd"] == SESSION + 50 * 2500 + 5 * 10_000


def test_a_run_cancelled_before_it_did_anything_costs_nothing(azure: Resource) -> None:
    run = azure.start(azure.thread("compute this"), azure.assistant())
    azure.dated("POST", f"{run}/cancel")
    assert azure.dated("GET", run).json()["status"] == "cancelled"
    azure.advance(1000)
    assert azure.invoice()["total_nano_usd"] == 0


def test_a_run_that_outlives_its_ten_minutes_expires_and_is_charged(azure: Resource) -> None:
    thread, assistant = azure.thread("[[sim calls=1 run_s=1300 tokens=0/0/0]]"), azure.assistant()
    run = azure.start(thread, assistant)
    azure.advance(599)
    assert azure.dated("GET", run).json()["status"] == "in_progress"
    azure.advance(1)
    assert azure.dated("GET", run).json()["status"] == "expired"
    assert azure.invoice()["total_nano_usd"] == SESSION


def test_a_run_on_a_deleted_thread_is_charged_all_the_same(azure: Resource) -> None:
    thread = azure.thread("compute this [[sim tokens=0/0/0]]")
    azure.start(thread, azure.assistant())
    assert azure.dated("DELETE", f"/threads/{thread}").json()["deleted"] is True
    azure.advance(10)
    assert azure.invoice()["total_nano_usd"] == SESSION


@pytest.mark.parametrize("override", [{"tools": []}, {"tool_choice": "none"}])
def test_the_runs_own_settings_take_the_tool_away(
    azure: Resource, override: dict[str, object]
) -> None:
    thread = azure.thread("draw it [[sim calls=1 run_s=0 tokens=0/0/0]]")
    azure.start(thread, azure.assistant(), **override)
    assert azure.invoice()["session_count"] == 0


def test_a_container_is_charged_when_it_is_created(azure: Resource) -> None:
    container = azure.v1("POST", "/containers", {"name": "mine"}).json()
    (line,) = azure.invoice()["sessions"]
    assert (line["kind"], line["scope"], line["calls"]) == ("container", container["id"], 0)
    assert azure.invoice()["total_nano_usd"] == SESSION


def test_a_container_lives_twenty_minutes_after_it_was_last_looked_at(azure: Resource) -> None:
    path = f"/containers/{azure.v1('POST', '/containers', {'name': 'mine'}).json()['id']}"
    for seconds, status in [(1199, 200), (1199, 200), (1200, 404), (0, 404)]:
        azure.advance(seconds)
        assert azure.v1("GET", path).status_code == status
    assert azure.invoice()["session_count"] == 1


def test_a_container_kept_alive_for_an_hour_opens_a_second_session_at_the_next_call(
    azure: Resource,
) -> None:
    container = azure.v1("POST", "/containers", {"name": "mine"}).json()["id"]
    tools = [{"type": "code_interpreter", "container": container}]
    for _ in range(3):  # used at 0:00, 0:19:59 and so on
        azure.respond(CALL, tools=tools)
        azure.advance(1199)
    azure.v1("GET", f"/containers/{container}")
    assert azure.invoice()["session_count"] == 1
    azure.advance(3)
    azure.respond(CALL, tools=tools)
    rows = azure.invoice()["sessions"]
    assert [(row["opened_at"] - START_S, row["calls"]) for row in rows] == [(0, 3), (3600, 1)]


def test_an_automatic_container_is_charged_though_nobody_called_and_its_id_is_hidden(
    azure: Resource,
) -> None:
    answer = azure.respond("[[sim calls=0 tokens=0/0/0]]")
    (line,) = azure.invoice()["sessions"]
    assert line["scope"] not in str(answer)
    assert azure.invoice()["total_nano_usd"] == SESSION


def test_an_automatic_container_is_used_again_while_it_lives(azure: Resource) -> None:
    first = azure.respond(CALL)
    azure.advance(1199)
    second = azure.respond(CALL, previous_response_id=first["id"])
    assert second["output"][0]["container_id"] == first["output"][0]["container_id"]
    assert azure.invoice()["session_count"] == 1
    azure.advance(1200)
    azure.respond(CALL, previous_response_id=second["id"])
    assert azure.invoice()["total_nano_usd"] == 60_000_000


def test_a_second_conversation_gets_a_container_of_its_own(azure: Resource) -> None:
    azure.respond(CALL)
    azure.respond(CALL)
    assert azure.invoice()["session_count"] == 2


def test_an_expired_container_cannot_be_named_in_a_response(azure: Resource) -> None:
    container = azure.v1("POST", "/containers", {"name": "mine"}).json()["id"]
    azure.advance(1200)
    tools = [{**AUTO, "container": container}]
    body = {"model": "gpt-4o", "input": "hi", "tools": tools}
    assert azure.v1("POST", "/responses", body).status_code == 404
    assert azure.invoice()["session_count"] == 1


def test_cached_tokens_cost_their_own_price(azure: Resource) -> None:
    messages = [{"role": "user", "content": "[[sim tokens=1000/400/50]]"}]
    body = {"model": "gpt-4o", "messages": messages}
    usage = azure.v1("POST", "/chat/completions", body).json()["usage"]
    assert usage["prompt_tokens"] == 1000
    assert usage["prompt_tokens_details"]["cached_tokens"] == 400
    invoice = azure.invoice()
    (line,) = invoice["tokens"]
    assert (line["input_tokens"], line["cached_input_tokens"], line["output_tokens"]) == (
        600,
        400,
        50,
    )
    # 600 x $2.50 + 400 x $1.25 + 50 x $10 per million tokens = $0.0025
    assert invoice["total_nano_usd"] == 2_500_000


@pytest.mark.parametrize(
    ("deployment", "nano_usd"),
    [
        ("gpt-4o", 12_500_000),
        ("gpt-4o-mini", 750_000),
        ("gpt-4.1", 10_000_000),
        ("gpt-4.1-mini", 2_000_000),
    ],
)
def test_a_thousand_tokens_each_way_cost_what_the_price_list_says(
    azure: Resource, deployment: str, nano_usd: int
) -> None:
    path = f"/deployments/{deployment}/chat/completions"
    messages = [{"role": "user", "content": "[[sim tokens=1000/0/1000]]"}]
    assert azure.dated("POST", path, {"messages": messages}).status_code == 200
    assert azure.invoice()["total_nano_usd"] == nano_usd


@pytest.mark.parametrize(
    ("deployment", "nano_usd"),
    [
        ("text-embedding-3-small", 20_000),
        ("text-embedding-3-large", 130_000),
        ("text-embedding-ada-002", 100_000),
    ],
)
def test_a_thousand_embedded_tokens_cost_what_the_price_list_says(
    azure: Resource, deployment: str, nano_usd: int
) -> None:
    body = {"model": deployment, "input": "x" * 4000}
    assert azure.v1("POST", "/embeddings", body).json()["usage"]["prompt_tokens"] == 1000
    assert azure.invoice()["total_nano_usd"] == nano_usd


@pytest.mark.parametrize(
    ("directive", "status", "nano_usd"),
    [
        ("status=429", 429, 0),
        ("status=500", 500, 0),
        ("status=500 after=1", 500, 12_500),
    ],
)
def test_a_failure_after_the_work_is_charged_and_one_before_it_is_not(
    azure: Resource, directive: str, status: int, nano_usd: int
) -> None:
    messages = [{"role": "user", "content": f"[[sim {directive} tokens=1/0/1]]"}]
    body = {"model": "gpt-4o", "messages": messages}
    answer = azure.v1("POST", "/chat/completions", body)
    assert answer.status_code == status
    assert ("retry-after" in answer.headers) == (status == 429)
    assert azure.invoice()["total_nano_usd"] == nano_usd


def read_until_cut(answer: httpx.Response) -> bytes:
    """Return what came before the connection broke, which it must."""
    received = b""
    chunks = answer.iter_raw()
    while True:
        try:
            received += next(chunks)
        except httpx.RemoteProtocolError:
            return received


@pytest.mark.parametrize("cut", [0, 3])
def test_a_stream_that_is_cut_is_charged_all_the_same(azure: Resource, cut: int) -> None:
    messages = [{"role": "user", "content": f"[[sim cut={cut} tokens=1/0/1]]"}]
    body = {"messages": messages, "stream": True}
    target = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
    with azure.http.stream("POST", target, json=body) as answer:
        frames = read_until_cut(answer)
    assert frames.count(b"\n\n") == cut
    assert azure.invoice()["total_nano_usd"] == 12_500


def test_a_client_that_leaves_in_the_middle_is_charged_all_the_same(azure: Resource) -> None:
    thread, assistant = azure.thread("[[sim calls=1 tokens=0/0/0 words=2000]]"), azure.assistant()
    target = f"/openai/threads/{thread}/runs?api-version=2024-05-01-preview"
    body = {"assistant_id": assistant, "stream": True}
    with azure.http.stream("POST", target, json=body) as answer:
        assert next(answer.iter_raw()).startswith(b"event: thread.run.created")
    assert azure.invoice()["total_nano_usd"] == SESSION


def test_a_background_response_is_charged_for_tokens_when_it_is_done(azure: Resource) -> None:
    answer = azure.respond("[[sim calls=1 tokens=1/0/1]]", background=True)
    assert (answer["status"], answer["output"]) == ("queued", [])
    assert azure.invoice()["total_nano_usd"] == SESSION
    azure.advance(5)
    assert azure.v1("GET", f"/responses/{answer['id']}").json()["status"] == "in_progress"
    azure.advance(5)
    ended = azure.v1("GET", f"/responses/{answer['id']}").json()
    assert (ended["status"], ended["usage"]["total_tokens"]) == ("completed", 2)
    assert azure.invoice()["total_nano_usd"] == SESSION + 12_500
