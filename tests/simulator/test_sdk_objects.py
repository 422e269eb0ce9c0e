"""The `openai` SDK, unmodified, on stores, uploads, containers, conversations, batches, models."""

import hashlib
import io
import json
import time
from collections.abc import Iterator

import openai
import pytest
from openai import AzureOpenAI, OpenAI

from gateway.simulator import LiveSimulator, SimulatorConfig
from tests.simulator.resource import KEY

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
VERSION = "2025-04-01-preview"


@pytest.fixture(params=["dated", "v1"])
def client(request: pytest.FixtureRequest) -> Iterator[OpenAI]:
    with LiveSimulator(SimulatorConfig(run_s=0.05)) as live:
        options = {"api_key": KEY, "max_retries": 0}
        made: OpenAI
        if request.param == "dated":
            made = AzureOpenAI(
                azure_endpoint=live.url, api_version=VERSION, api_key=KEY, max_retries=0
            )
        else:
            made = OpenAI(base_url=f"{live.url}/openai/v1/", api_key=KEY, max_retries=0)
        assert options["max_retries"] == made.max_retries
        with made as entered:
            yield entered


def test_a_vector_store_is_filled_searched_and_emptied(client: OpenAI) -> None:
    store = client.vector_stores.create(name="notes")
    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("a.md", b"alpha beta"), poll_interval_ms=20
    )
    assert (file.status, file.last_error) == ("completed", None)
    batch = client.vector_stores.file_batches.upload_and_poll(
        store.id, files=[("b.txt", b"gamma"), ("c.csv", b"1,2")], poll_interval_ms=20
    )
    assert (batch.file_counts.completed, batch.file_counts.failed) == (1, 1)
    failed = list(client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id))
    codes = [row.last_error.code for row in failed if row.last_error]
    assert codes == ["unsupported_file"]
    found = list(client.vector_stores.search(store.id, query="alpha"))
    assert [row.filename for row in found] == ["a.md"]
    content = client.vector_stores.files.content(file.id, vector_store_id=store.id)
    assert [part.text for part in content] == ["alpha beta"]
    changed = client.vector_stores.files.update(
        file.id, vector_store_id=store.id, attributes={"year": 2026}
    )
    assert changed.attributes == {"year": 2026}
    assert client.vector_stores.files.delete(file.id, vector_store_id=store.id).deleted
    assert client.vector_stores.update(store.id, name="mine").name == "mine"
    assert [row.id for row in client.vector_stores.list()] == [store.id]
    assert client.vector_stores.delete(store.id).deleted


def test_a_file_is_uploaded_in_chunks(client: OpenAI) -> None:
    content = bytes(range(256)) * 10
    upload = client.uploads.upload_file_chunked(
        file=content,
        filename="rows.csv",
        bytes=len(content),
        mime_type="text/csv",
        purpose="assistants",
        part_size=1000,
        md5=hashlib.md5(content).hexdigest(),
    )
    assert upload.status == "completed"
    assert upload.file is not None
    assert client.files.content(upload.file.id).read() == content
    given_up = client.uploads.create(
        bytes=1, filename="a.txt", mime_type="text/plain", purpose="assistants"
    )
    assert client.uploads.cancel(given_up.id).status == "cancelled"


def test_a_containers_files_are_sent_copied_read_and_deleted(client: OpenAI) -> None:
    file = client.files.create(file=("rows.csv", b"1,2\n"), purpose="assistants")
    container = client.containers.create(name="mine", file_ids=[file.id])
    files = client.containers.files
    sent = files.create(container.id, file=("b.txt", io.BytesIO(b"hello")))
    copied = files.create(container.id, file_id=file.id)
    assert len(list(files.list(container.id))) == 3
    assert files.retrieve(sent.id, container_id=container.id).path == "/mnt/data/b.txt"
    contents = [
        files.content.retrieve(row.id, container_id=container.id).read() for row in (sent, copied)
    ]
    assert contents == [b"hello", b"1,2\n"]
    files.delete(sent.id, container_id=container.id)
    with pytest.raises(openai.NotFoundError):
        files.retrieve(sent.id, container_id=container.id)


def test_a_batch_runs_to_its_output(client: OpenAI) -> None:
    asked = {"model": "gpt-4o-mini", "input": "alpha"}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": asked}
    file = client.files.create(file=("in.jsonl", json.dumps(line).encode()), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/responses", completion_window="24h"
    )
    deadline = time.monotonic() + 20
    while batch.status not in ("completed", "failed") and time.monotonic() < deadline:
        batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed"
    assert batch.output_file_id is not None
    row = json.loads(client.files.content(batch.output_file_id).text)
    assert row["response"]["body"]["object"] == "response"
    assert [listed.id for listed in client.batches.list()] == [batch.id]
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


def test_models_are_listed_and_read(client: OpenAI) -> None:
    listed = {model.id for model in client.models.list()}
    assert {"gpt-4o-2024-11-20", "text-embedding-3-small"} <= listed
    assert client.models.retrieve("gpt-4o").id == "gpt-4o-2024-11-20"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


def test_a_conversation_goes_on_from_response_to_response() -> None:
    with (
        LiveSimulator(SimulatorConfig()) as live,
        OpenAI(base_url=f"{live.url}/openai/v1/", api_key=KEY, max_retries=0) as client,
    ):
        conversation = client.conversations.create(metadata={"a": "b"})
        for text in ("hello", "again"):
            answer = client.responses.create(
                model="gpt-4o", input=text, conversation=conversation.id
            )
            assert answer.conversation is not None
            assert answer.conversation.id == conversation.id
        items = list(client.conversations.items.list(conversation.id, order="asc"))
        assert [item.type for item in items] == ["message"] * 4
        added = client.conversations.items.create(
            conversation.id, items=[{"role": "user", "content": "more"}]
        )
        item_id = added.data[0].id
        assert item_id is not None
        kept = client.conversations.items.retrieve(item_id, conversation_id=conversation.id)
        assert kept.type == "message"
        client.conversations.items.delete(item_id, conversation_id=conversation.id)
        assert client.conversations.retrieve(conversation.id).metadata == {"a": "b"}
        assert client.conversations.update(conversation.id, metadata={}).metadata == {}
        assert client.conversations.delete(conversation.id).deleted


def test_a_streamed_response_is_taken_up_again_where_it_broke_off() -> None:
    with (
        LiveSimulator(SimulatorConfig(run_s=0.05)) as live,
        OpenAI(base_url=f"{live.url}/openai/v1/", api_key=KEY, max_retries=0) as client,
    ):
        with client.responses.create(
            model="gpt-4o", input="hi [[sim words=3]]", background=True, stream=True
        ) as stream:
            events = list(stream)
        assert [event.sequence_number for event in events] == list(range(len(events)))
        created = events[0]
        assert created.type == "response.created"
        with client.responses.retrieve(created.response.id, stream=True, starting_after=3) as again:
            assert list(again) == events[4:]
        with pytest.raises(openai.BadRequestError):
            client.responses.retrieve(created.response.id, stream=True, starting_after=-5)
