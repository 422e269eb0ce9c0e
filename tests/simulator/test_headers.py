"""The headers Azure tells its limits by, and the models' and versions' doors."""

import httpx
import pytest

from tests.simulator.resource import Resource

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "[[sim tokens=90/0/10]]"}]}


def ask(azure: Resource, **more: object) -> httpx.Headers:
    answer = azure.v1("POST", "/chat/completions", {**CHAT, **more})
    assert answer.status_code == 200
    return answer.headers


def test_the_headers_tell_what_is_left_of_the_minute(azure: Resource) -> None:
    assert ask(azure)["x-ratelimit-remaining-tokens"] == "999900"
    azure.advance(50)
    later = ask(azure, stream=True)
    assert later["x-ratelimit-remaining-tokens"] == "999800"
    assert later["x-ratelimit-remaining-requests"] == "998"
    assert later["x-ratelimit-reset-requests"] == "10"
    assert later["x-ms-deployment-name"] == "gpt-4o"
    assert ask(azure, model="gpt-4o-mini")["x-ratelimit-remaining-requests"] == "999"
    azure.advance(10)
    assert ask(azure)["x-ratelimit-remaining-tokens"] == "999900"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/responses", {"model": "gpt-4o", "input": "hi"}),
        ("/responses", {"model": "gpt-4o", "input": "hi", "stream": True}),
        ("/embeddings", {"model": "text-embedding-3-small", "input": "hi"}),
        ("/completions", {"model": "gpt-4o", "prompt": "hi"}),
    ],
)
def test_every_kind_of_inference_has_them(
    azure: Resource, path: str, body: dict[str, object]
) -> None:
    headers = azure.v1("POST", path, body).headers
    assert headers["x-ratelimit-limit-tokens"] == "1000000"
    assert headers["x-ratelimit-renewalperiod-tokens"] == "60"
    assert headers["x-ratelimit-abusepenalty-active"] == "False"
    assert headers["x-ms-is-spilled-over"] == "false"


def test_a_dated_model_tells_its_capabilities_and_a_v1_model_its_owner(azure: Resource) -> None:
    dated = azure.dated("GET", "/models/text-embedding-3-small").json()
    assert dated["capabilities"]["embeddings"] is True
    assert dated["capabilities"]["chat_completion"] is False
    v1 = azure.v1("GET", "/models/gpt-4o-2024-11-20").json()
    assert v1["owned_by"] == "azure-openai"
    assert azure.v1("GET", "/models/gpt-9").status_code == 404


@pytest.mark.parametrize(
    ("path", "version", "status"),
    [
        ("/batches", "2024-06-01", 404),
        ("/batches", "2024-07-01-preview", 200),
        ("/vector_stores", "2024-04-01-preview", 404),
        ("/vector_stores", "2024-05-01-preview", 200),
        ("/models", "2024-02-01", 200),
        ("/threads", "2024-05-01-preview", 404),
    ],
)
def test_a_version_has_what_it_brought(
    azure: Resource, path: str, version: str, status: int
) -> None:
    assert azure.dated("GET", path, version=version).status_code == status


def test_a_finished_responses_events_can_be_read_again(azure: Resource) -> None:
    body = {"model": "gpt-4o", "input": "hi [[sim words=2]]", "stream": True}
    first = azure.v1("POST", "/responses", body).text
    response_id = first.split('"id":"')[1].split('"')[0]
    path = f"/responses/{response_id}?stream=true"
    assert azure.v1("GET", path).text == first
    rest = azure.v1("GET", f"{path}&starting_after=0").text
    assert first.endswith(rest)
    assert rest.count("\n\n") == first.count("\n\n") - 1


def test_a_cancelled_background_stream_ends(azure: Resource) -> None:
    body = {"model": "gpt-4o", "input": "hi", "background": True}
    response_id = azure.v1("POST", "/responses", body).json()["id"]
    assert azure.v1("POST", f"/responses/{response_id}/cancel").json()["status"] == "cancelled"
    text = azure.v1("GET", f"/responses/{response_id}?stream=true").text
    assert "response.created" in text
    assert "response.completed" not in text
