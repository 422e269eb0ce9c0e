"""Doors, errors, lists and lookups: how the resource answers what is not work."""

from typing import Any

import httpx
import pytest

from gateway.simulator import ApiVersions, LiveSimulator, SimulatorConfig
from tests.simulator.resource import KEY, START_S, Resource

UNKNOWN_VERSION = {"error": {"code": "BadRequest", "message": "API version not supported"}}
NOT_FOUND = {"error": {"code": "404", "message": "Resource not found"}}


def upload(azure: Resource, target: str, purpose: str = "assistants") -> httpx.Response:
    files = {"file": ("rows.csv", b"a,b\n1,2\n", "text/csv")}
    return azure.http.post(target, files=files, data={"purpose": purpose})


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/openai/files", 404, NOT_FOUND),
        ("/openai/files?api-version=2024-02-15-preview", 400, UNKNOWN_VERSION),
        ("/openai/files?api-version=2023-07-01-preview", 400, UNKNOWN_VERSION),
        ("/openai/files?api-version=2031-01-01", 400, UNKNOWN_VERSION),
        ("/openai/assistants?api-version=2024-02-01", 404, NOT_FOUND),
        ("/openai/nothing?api-version=2024-10-21", 404, NOT_FOUND),
        ("/elsewhere", 404, NOT_FOUND),
        ("/openai/v1/assistants", 404, NOT_FOUND),
    ],
)
def test_a_wrong_version_or_route_is_refused_in_azures_words(
    azure: Resource, target: str, status: int, body: dict[str, Any]
) -> None:
    answer = azure.http.get(target)
    assert (answer.status_code, answer.json()) == (status, body)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("?api-version=v1", 200),
        ("?api-version=preview", 200),
        ("?api-version=2024-10-21", 400),
    ],
)
def test_the_v1_surface_takes_no_dated_version(azure: Resource, query: str, status: int) -> None:
    assert azure.http.get(f"/openai/v1/files{query}").status_code == status


def test_responses_need_a_version_that_has_them(azure: Resource) -> None:
    body = {"model": "gpt-4o", "input": "hi"}
    refused = azure.dated("POST", "/responses", body, version="2025-02-01-preview")
    assert refused.status_code == 400
    assert "2025-03-01-preview" in refused.json()["error"]["message"]
    assert azure.dated("POST", "/responses", body, version="2025-03-01-preview").status_code == 200


def test_a_configuration_may_retire_a_version() -> None:
    versions = ApiVersions(retired=frozenset({"2024-10-21"}))
    config = SimulatorConfig(api_versions=versions)
    with LiveSimulator(config) as live, Resource(live.url) as azure:
        assert azure.dated("GET", "/files", version="2024-10-21").json() == UNKNOWN_VERSION


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"api-key": KEY}, 200),
        ({"authorization": f"Bearer {KEY}"}, 200),
        ({"api-key": "another"}, 401),
        ({"authorization": KEY}, 401),
        ({}, 401),
    ],
)
def test_only_the_key_opens_the_door(azure: Resource, headers: dict[str, str], status: int) -> None:
    answer = httpx.get(f"{azure.url}/openai/v1/files", headers=headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.json()["error"]["code"] == "401"


def test_the_journal_has_every_request_and_no_credential(azure: Resource) -> None:
    upload(azure, "/openai/v1/files?x=%2F1")
    httpx.get(f"{azure.url}/openai/v1/files", headers={"authorization": "Bearer secret"})
    first, second = azure.journal()
    assert (first["n"], first["method"]) == (1, "POST")
    assert first["target"] == "/openai/v1/files?x=%2F1"
    assert ["api-key", "present"] in first["headers"]
    assert {part["name"]: part["bytes"] for part in first["form"]} == {"purpose": 10, "file": 8}
    assert first["form"][1]["filename"] == "rows.csv"
    assert ["authorization", "wrong"] in second["headers"]
    assert "secret" not in str(azure.journal())
    assert azure.journal(after=1) == [second]


@pytest.mark.parametrize("surface", ["dated", "v1"])
def test_an_unknown_deployment_is_not_found(azure: Resource, surface: str) -> None:
    body = {"model": "gpt-9", "messages": [{"role": "user", "content": "hi"}]}
    answer = (
        azure.v1("POST", "/chat/completions", body)
        if surface == "v1"
        else azure.dated("POST", "/deployments/gpt-9/chat/completions", body)
    )
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "DeploymentNotFound"
    assert answer.headers.keys() & {"x-ratelimit-remaining-tokens"} == set()


def test_an_answer_has_azures_headers(azure: Resource) -> None:
    headers = azure.http.get("/openai/v1/files").headers
    assert headers["x-ms-region"] == "Sweden Central"
    assert {"apim-request-id", "x-request-id", "x-ratelimit-remaining-requests"} <= headers.keys()


def test_a_dated_upload_is_created_and_a_v1_upload_is_ok(azure: Resource) -> None:
    dated = upload(azure, "/openai/files?api-version=2024-10-21")
    assert dated.status_code == 201
    assert dated.json()["id"].startswith("assistant-")
    assert azure.http.get(dated.headers["location"]).json() == dated.json()
    v1 = upload(azure, "/openai/v1/files")
    assert v1.status_code == 200
    assert v1.json()["id"].startswith("file-")
    ids = {row["id"] for row in azure.v1("GET", "/files").json()["data"]}
    assert ids == {dated.json()["id"], v1.json()["id"]}


def test_a_purpose_azure_does_not_know_is_refused(azure: Resource) -> None:
    answer = upload(azure, "/openai/v1/files", purpose="user_data")
    expected = {"code": "invalidPayload", "message": "Invalid value for purpose."}
    assert (answer.status_code, answer.json()["error"]) == (400, expected)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b\r\n",
        b"junk--b\r\n\r\n--b--",
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n--b--\r\nmore',
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n',
    ],
)
def test_a_malformed_form_is_refused(azure: Resource, body: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = azure.http.post("/openai/v1/files", content=body, headers=headers)
    assert answer.status_code == 400
    assert azure.v1("GET", "/files").json()["data"] == []


def test_a_deleted_file_is_no_longer_found(azure: Resource) -> None:
    path = f"/files/{upload(azure, '/openai/v1/files').json()['id']}"
    assert azure.v1("DELETE", path).json()["deleted"] is True
    for tail in ("", "/content"):
        answer = azure.v1("GET", path + tail)
        assert answer.status_code == 404
        assert answer.json()["error"]["message"].startswith("No such File object: file-")


def test_a_file_with_an_expiry_is_gone_after_it(azure: Resource) -> None:
    data = {
        "purpose": "assistants",
        "expires_after[anchor]": "created_at",
        "expires_after[seconds]": "1209600",
    }
    files = {"file": ("rows.csv", b"1", "text/csv")}
    file = azure.http.post("/openai/v1/files", files=files, data=data).json()
    assert file["expires_at"] == START_S + 1_209_600
    azure.advance(1_209_599)
    assert azure.v1("GET", f"/files/{file['id']}").status_code == 200
    azure.advance(1)
    assert azure.v1("GET", f"/files/{file['id']}").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/assistants", {"model": "gpt-4o", "file_ids": []}, "('file_ids' was unexpected)"),
        ("/assistants", {}, "Missing required parameter: 'model'."),
        ("/assistants", {"model": "gpt-4o", "tools": [{"type": "retrieval"}]}, "'retrieval'"),
        ("/threads", {"a": 1, "b": 2}, "('a', 'b' were unexpected)"),
        (
            "/threads",
            {"messages": [{"role": "user", "content": "x", "file_ids": ["f"]}]},
            "('file_ids' was unexpected)",
        ),
        (
            "/threads",
            {"messages": [{"role": "user", "content": "x", "attachments": [{"file_id": "f"}]}]},
            "Missing required parameter: 'attachments[0].tools'.",
        ),
    ],
)
def test_schemas_are_closed(azure: Resource, path: str, body: dict[str, Any], words: str) -> None:
    answer = azure.dated("POST", path, body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_a_message_attachment_is_added_to_its_threads_code_interpreter(azure: Resource) -> None:
    file_id = upload(azure, "/openai/v1/files").json()["id"]
    tools = [{"type": "code_interpreter"}]
    attachments = [{"file_id": file_id, "tools": tools}]
    message = {"role": "user", "content": "see this", "attachments": attachments}
    thread = azure.dated("POST", "/threads", {"messages": [message]}).json()
    assert thread["tool_resources"] == {"code_interpreter": {"file_ids": [file_id]}}


def test_a_plain_message_has_no_status_as_on_azures_wire(azure: Resource) -> None:
    thread = azure.thread("hello")
    (message,) = azure.dated("GET", f"/threads/{thread}/messages").json()["data"]
    assert "status" not in message
    assert message["content"] == [{"type": "text", "text": {"value": "hello", "annotations": []}}]


def test_an_active_run_locks_its_thread(azure: Resource) -> None:
    thread, assistant = azure.thread("hello"), azure.assistant()
    run = azure.start(thread, assistant)
    message = azure.dated(
        "POST", f"/threads/{thread}/messages", {"role": "user", "content": "more"}
    )
    second = azure.dated("POST", f"/threads/{thread}/runs", {"assistant_id": assistant})
    assert (message.status_code, second.status_code) == (400, 400)
    run_id = run.rpartition("/")[2]
    expected = f"Can't add messages to {thread} while a run {run_id} is active."
    assert message.json()["error"]["message"] == expected
    assert azure.finish(run)["status"] == "completed"
    azure.say(thread, "more")


def test_messages_can_be_listed_by_run_changed_and_deleted(azure: Resource) -> None:
    thread, assistant = azure.thread("hello"), azure.assistant()
    run = azure.start(thread, assistant)
    azure.finish(run)
    root = f"/threads/{thread}/messages"
    (answer,) = azure.dated("GET", f"{root}?run_id={run.rpartition('/')[2]}").json()["data"]
    assert answer["role"] == "assistant"
    changed = azure.dated("POST", f"{root}/{answer['id']}", {"metadata": {"seen": "yes"}}).json()
    assert changed["metadata"] == {"seen": "yes"}
    assert azure.dated("DELETE", f"{root}/{answer['id']}").json()["deleted"] is True
    assert azure.dated("GET", f"{root}/{answer['id']}").status_code == 404


def test_a_list_is_paged_in_both_directions(azure: Resource) -> None:
    ids = [azure.assistant() for _ in range(5)]
    first = azure.dated("GET", "/assistants?limit=2").json()
    assert [row["id"] for row in first["data"]] == [ids[4], ids[3]]
    assert (first["first_id"], first["last_id"], first["has_more"]) == (ids[4], ids[3], True)
    rest = azure.dated("GET", f"/assistants?limit=3&after={first['last_id']}").json()
    assert [row["id"] for row in rest["data"]] == [ids[2], ids[1], ids[0]]
    assert rest["has_more"] is False
    oldest = azure.dated("GET", f"/assistants?order=asc&limit=2&before={ids[3]}").json()
    assert [row["id"] for row in oldest["data"]] == [ids[1], ids[2]]
    assert oldest["has_more"] is True
    assert azure.dated("GET", "/assistants?limit=0").status_code == 400


def test_an_encoded_slash_stays_inside_its_segment(azure: Resource) -> None:
    answer = azure.dated("GET", "/threads/thread_a%2Fruns")
    assert answer.json()["error"]["message"] == "No thread found with id 'thread_a/runs'."


def test_the_clock_may_not_go_back(azure: Resource) -> None:
    assert azure.http.get("/simulator/clock").json() == {"now_s": START_S}
    azure.http.post("/simulator/clock", json={"now_s": START_S + 60})
    for body in ({"now_s": START_S}, {"advance_s": -1}, {}):
        assert azure.http.post("/simulator/clock", json=body).status_code == 400
    assert azure.http.get("/simulator/clock").json() == {"now_s": START_S + 60}


def test_a_new_life_repeats_the_old_one(azure: Resource) -> None:
    def live() -> tuple[str, Any]:
        azure.advance(60)
        run = azure.ask(azure.thread("draw it"), azure.assistant(), "draw [[sim calls=1 run_s=0]]")
        return run["id"], azure.invoice()

    first = live()
    assert first[1]["session_count"] == 1
    assert azure.http.post("/simulator/reset").status_code == 200
    assert azure.journal() == []
    assert azure.invoice()["total_nano_usd"] == 0
    assert live() == first


def test_a_directive_nobody_knows_is_told(azure: Resource) -> None:
    body = {"model": "gpt-4o", "input": "[[sim cals=1]]"}
    answer = azure.v1("POST", "/responses", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_directive")


def test_a_deployment_without_a_price_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no price for model `o9`"):
        SimulatorConfig(deployments={"mine": "o9"})


def test_container_files_come_from_forms_and_from_files(azure: Resource) -> None:
    file_id = upload(azure, "/openai/v1/files").json()["id"]
    body = {"name": "mine", "file_ids": [file_id]}
    root = f"/containers/{azure.v1('POST', '/containers', body).json()['id']}/files"
    copied = azure.v1("POST", root, {"file_id": file_id}).json()
    files = {"file": ("b.txt", b"hello", "text/plain")}
    sent = azure.http.post(f"/openai/v1{root}", files=files).json()
    assert (sent["path"], sent["source"], sent["bytes"]) == ("/mnt/data/b.txt", "user", 5)
    assert len(azure.v1("GET", root).json()["data"]) == 3
    assert azure.v1("GET", f"{root}/{copied['id']}/content").content == b"a,b\n1,2\n"
    assert azure.v1("DELETE", f"{root}/{copied['id']}").json()["deleted"] is True
    assert azure.v1("GET", f"{root}/{copied['id']}").status_code == 404


def test_responses_can_be_read_back_cancelled_and_deleted(azure: Resource) -> None:
    answer = azure.v1("POST", "/responses", {"model": "gpt-4o", "input": "hi"}).json()
    path = f"/responses/{answer['id']}"
    assert azure.v1("GET", path).json() == answer
    (item,) = azure.v1("GET", f"{path}/input_items").json()["data"]
    assert item["content"] == [{"type": "input_text", "text": "hi"}]
    assert azure.v1("POST", f"{path}/cancel").status_code == 400
    assert azure.v1("DELETE", path).json()["deleted"] is True
    assert azure.v1("GET", path).status_code == 404
    body = {"model": "gpt-4o", "input": "hi", "background": True}
    later = f"/responses/{azure.v1('POST', '/responses', body).json()['id']}"
    assert azure.v1("POST", f"{later}/cancel").json()["status"] == "cancelled"
    azure.advance(100)
    assert azure.v1("GET", later).json()["status"] == "cancelled"


def test_a_response_nobody_wanted_stored_is_not_found(azure: Resource) -> None:
    body = {"model": "gpt-4o", "input": "hi", "store": False}
    answer = azure.v1("POST", "/responses", body).json()
    assert azure.v1("GET", f"/responses/{answer['id']}").status_code == 404


def test_an_assistant_can_be_changed_and_deleted(azure: Resource) -> None:
    file_id = upload(azure, "/openai/v1/files").json()["id"]
    path = f"/assistants/{azure.assistant()}"
    resources = {"code_interpreter": {"file_ids": [file_id]}}
    body = {"name": "tutor", "tool_resources": resources, "model": "gpt-4.1"}
    changed = azure.dated("POST", path, body).json()
    assert (changed["name"], changed["model"]) == ("tutor", "gpt-4.1")
    assert changed == azure.dated("GET", path).json()
    missing = {"tool_resources": {"code_interpreter": {"file_ids": ["assistant-none"]}}}
    assert azure.dated("POST", path, missing).status_code == 404
    assert azure.dated("POST", path, {"model": "gpt-9"}).status_code == 404
    assert azure.dated("DELETE", path).json()["object"] == "assistant.deleted"
    assert azure.dated("GET", path).status_code == 404


def test_a_thread_can_be_changed_and_deleted(azure: Resource) -> None:
    path = f"/threads/{azure.thread('hello')}"
    body = {"metadata": {"a": "b"}, "tool_resources": {}}
    assert azure.dated("POST", path, body).json()["metadata"] == {"a": "b"}
    assert azure.dated("DELETE", path).json()["object"] == "thread.deleted"
    assert azure.dated("GET", path).status_code == 404


def test_a_run_can_be_read_step_by_step_and_labelled_but_not_cancelled_twice(
    azure: Resource,
) -> None:
    run = azure.start(azure.thread("compute this"), azure.assistant())
    assert azure.finish(run)["status"] == "completed"
    (step, *_) = azure.dated("GET", f"{run}/steps").json()["data"]
    assert azure.dated("GET", f"{run}/steps/{step['id']}").json() == step
    assert azure.dated("GET", f"{run}/steps/step_none").status_code == 404
    labelled = azure.dated("POST", run, {"metadata": {"a": "b"}}).json()
    assert labelled["metadata"] == {"a": "b"}
    refused = azure.dated("POST", f"{run}/cancel")
    assert refused.json()["error"]["message"] == "Cannot cancel run with status 'completed'."
    assert azure.dated("POST", f"{run}/submit_tool_outputs", {"tool_outputs": []}).is_error


def test_a_run_cancelled_while_it_writes_leaves_an_incomplete_message(azure: Resource) -> None:
    thread = azure.thread("hello")
    run = azure.start(thread, azure.assistant())
    azure.advance(7)
    assert azure.dated("POST", f"{run}/cancel").json()["status"] == "cancelling"
    assert azure.dated("GET", run).json()["status"] == "cancelled"
    (step,) = azure.dated("GET", f"{run}/steps").json()["data"]
    assert step["status"] == "cancelled"
    answer, _ = azure.dated("GET", f"/threads/{thread}/messages").json()["data"]
    assert answer["content"] == []


def test_message_parts_may_be_text_and_images_that_exist(azure: Resource) -> None:
    file_id = upload(azure, "/openai/v1/files").json()["id"]
    image = {"type": "image_file", "image_file": {"file_id": file_id}}
    path = f"/threads/{azure.thread('hello')}/messages"
    body = {"role": "user", "content": [{"type": "text", "text": "look"}, image]}
    answer = azure.dated("POST", path, body).json()
    assert answer["content"][0]["text"]["value"] == "look"
    assert answer["content"][1] == image
    gone = {"type": "image_file", "image_file": {"file_id": "assistant-none"}}
    assert azure.dated("POST", path, {"role": "user", "content": [gone]}).status_code == 404
    assert azure.dated("POST", path, {"role": "system", "content": "x"}).status_code == 400


def test_a_response_calls_a_function_until_it_is_answered(azure: Resource) -> None:
    tools = [{"type": "function", "name": "get_weather", "parameters": {}}]
    asked = {"role": "user", "content": "[[sim function=get_weather]]"}
    body = {"model": "gpt-4o", "input": [asked], "tools": tools}
    (call,) = azure.v1("POST", "/responses", body).json()["output"]
    assert (call["type"], call["name"], call["arguments"]) == ("function_call", "get_weather", "{}")
    streamed = azure.v1("POST", "/responses", {**body, "stream": True}).text
    assert "event: response.function_call_arguments.done" in streamed
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
    answered = azure.v1("POST", "/responses", {**body, "input": [asked, call, output]}).json()
    assert [item["type"] for item in answered["output"]] == ["message"]


def test_a_container_can_be_deleted_and_must_be_named(azure: Resource) -> None:
    assert azure.v1("POST", "/containers", {}).status_code == 400
    expiry = {"expires_after": {"anchor": "last_active_at", "minutes": 21}}
    assert azure.v1("POST", "/containers", {"name": "mine", **expiry}).status_code == 400
    path = f"/containers/{azure.v1('POST', '/containers', {'name': 'mine'}).json()['id']}"
    assert azure.v1("DELETE", path).json()["object"] == "container.deleted"
    assert azure.v1("GET", path).status_code == 404


@pytest.mark.parametrize(
    ("content", "status"), [(b"{", 400), (b"[]", 400), (b"", 400), (b'{"messages": [1]}', 400)]
)
def test_a_body_that_is_no_request_is_refused(azure: Resource, content: bytes, status: int) -> None:
    target = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
    assert azure.http.post(target, content=content).status_code == status


@pytest.mark.parametrize(
    "directive",
    ["calls=x", "calls=101", "tokens=1/2/3", "status=200", "outputs=video", "run_s=-1", "fail=2"],
)
def test_a_directive_out_of_range_is_refused(azure: Resource, directive: str) -> None:
    body = {"model": "gpt-4o", "input": f"[[sim {directive}]]"}
    answer = azure.v1("POST", "/responses", body)
    assert directive in answer.json()["error"]["message"]
    assert azure.invoice()["total_nano_usd"] == 0
