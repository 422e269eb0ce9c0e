"""Conversations: what a response said is there for the next, its container too."""

from typing import Any

from tests.simulator.resource import AUTO, Resource


def start(azure: Resource, **more: Any) -> str:
    return str(azure.v1("POST", "/conversations", more).json()["id"])


def types_in(azure: Resource, conversation: str) -> list[str]:
    path = f"/conversations/{conversation}/items?order=asc"
    return [item["type"] for item in azure.v1("GET", path).json()["data"]]


def test_a_response_adds_its_input_and_output(azure: Resource) -> None:
    conversation = start(azure)
    answer = azure.respond("compute this", conversation=conversation)
    assert answer["conversation"] == {"id": conversation}
    expected = ["message", "code_interpreter_call", "message"]
    assert types_in(azure, conversation) == expected
    azure.respond("hello", conversation={"id": conversation})
    assert types_in(azure, conversation) == [*expected, "message", "message"]


def test_a_container_that_was_shown_is_used_again_while_it_lives(azure: Resource) -> None:
    conversation = start(azure)
    first = azure.respond("compute this", conversation=conversation)["output"][0]
    azure.advance(1199)
    second = azure.respond("compute that", conversation=conversation)["output"][0]
    assert first["container_id"] == second["container_id"]
    assert azure.invoice()["session_count"] == 1
    azure.advance(1200)
    third = azure.respond("compute that", conversation=conversation)["output"][0]
    assert third["container_id"] != first["container_id"]
    assert azure.invoice()["session_count"] == 2


def test_a_container_that_was_not_shown_is_not_used_again(azure: Resource) -> None:
    conversation = start(azure)
    for _ in range(2):
        azure.respond("hello", conversation=conversation)
    assert azure.invoice()["session_count"] == 2


def test_the_model_reads_the_whole_conversation(azure: Resource) -> None:
    said = {"role": "user", "content": "x" * 400}
    conversation = start(azure, items=[said])
    usage = azure.respond("four", conversation=conversation)["usage"]
    assert usage["input_tokens"] == 101


def test_a_background_response_adds_to_its_conversation_when_it_ends(azure: Resource) -> None:
    conversation = start(azure)
    body = {"model": "gpt-4o", "input": "hi", "background": True, "conversation": conversation}
    assert azure.v1("POST", "/responses", body).json()["status"] == "queued"
    assert types_in(azure, conversation) == []
    azure.advance(10)
    assert types_in(azure, conversation) == ["message", "message"]


def test_items_are_added_read_and_taken_out(azure: Resource) -> None:
    path = f"/conversations/{start(azure, metadata={'a': 'b'})}"
    assert azure.v1("GET", path).json()["metadata"] == {"a": "b"}
    changed = azure.v1("POST", path, {"metadata": {"c": "d"}}).json()
    assert changed["metadata"] == {"c": "d"}
    body = {"items": [{"role": "user", "content": "hello"}]}
    added = azure.v1("POST", f"{path}/items", body).json()
    (item,) = added["data"]
    assert item["content"] == [{"type": "input_text", "text": "hello"}]
    one = f"{path}/items/{item['id']}"
    assert azure.v1("GET", one).json() == item
    assert azure.v1("DELETE", one).json()["object"] == "conversation"
    assert azure.v1("GET", one).status_code == 404
    assert azure.v1("POST", f"{path}/items", {"items": []}).status_code == 400
    assert azure.v1("DELETE", path).json()["object"] == "conversation.deleted"
    assert azure.v1("GET", path).status_code == 404


def test_a_conversation_must_exist_and_stand_alone(azure: Resource) -> None:
    body: dict[str, Any] = {"model": "gpt-4o", "input": "hi", "tools": [AUTO]}
    gone = azure.v1("POST", "/responses", {**body, "conversation": "conv_none"})
    assert gone.status_code == 404
    previous = azure.respond("hello")["id"]
    sessions = azure.invoice()["session_count"]
    both = {"conversation": start(azure), "previous_response_id": previous}
    assert azure.v1("POST", "/responses", {**body, **both}).status_code == 400
    assert azure.invoice()["session_count"] == sessions
    assert azure.dated("POST", "/conversations", {}).status_code == 404
