"""The `openai` SDK, unmodified, against the simulated resource."""

import asyncio
import base64
import struct
import zlib
from collections.abc import Iterator

import openai
import pytest
from openai import AsyncAzureOpenAI, AzureOpenAI, OpenAI
from openai.types.beta.thread_create_and_run_params import Thread
from openai.types.responses import Response

from gateway.simulator import LiveSimulator, SimulatorConfig
from tests.simulator.resource import KEY, Resource

# The SDK warns at every call of the Assistants API, whose clients the gateway is for.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
VERSION = "2025-04-01-preview"


@pytest.fixture
def live() -> Iterator[LiveSimulator]:
    with LiveSimulator(SimulatorConfig(run_s=0.05)) as simulator:
        yield simulator


@pytest.fixture
def azure_client(live: LiveSimulator) -> Iterator[AzureOpenAI]:
    with AzureOpenAI(
        azure_endpoint=live.url, api_key=KEY, api_version=VERSION, max_retries=0
    ) as client:
        yield client


@pytest.fixture
def v1_client(live: LiveSimulator) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{live.url}/openai/v1/", api_key=KEY, max_retries=0) as client:
        yield client


def check_png(content: bytes) -> None:
    """Assert that these bytes are a PNG whose chunks, checksums and pixels are whole."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    position, pixels, kinds = 8, b"", []
    width = height = 0
    while position < len(content):
        (length,) = struct.unpack_from(">I", content, position)
        kind = content[position + 4 : position + 8]
        data = content[position + 8 : position + 8 + length]
        (check,) = struct.unpack_from(">I", content, position + 8 + length)
        assert check == zlib.crc32(kind + data)
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", data)
        pixels += data if kind == b"IDAT" else b""
        kinds.append(kind)
        position += 12 + length
    assert kinds == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    drawn = zlib.decompress(pixels)
    assert len(drawn) == height * (width + 1)
    assert set(drawn) == {0, 1, 2}


def test_the_whole_story_of_a_streamed_run(live: LiveSimulator, azure_client: AzureOpenAI) -> None:
    client = azure_client
    file = client.files.create(file=("rows.csv", b"a,b\n1,2\n"), purpose="assistants")
    assistant = client.beta.assistants.create(
        model="gpt-4o",
        tools=[{"type": "code_interpreter"}],
        tool_resources={"code_interpreter": {"file_ids": [file.id]}},
    )
    thread = client.beta.threads.create()
    for _ in range(2):
        client.beta.threads.messages.create(thread.id, role="user", content="plot the rows")
        with client.beta.threads.runs.stream(
            thread_id=thread.id, assistant_id=assistant.id
        ) as stream:
            stream.until_done()
            run = stream.get_final_run()
            steps = stream.get_final_run_steps()
        assert run.status == "completed"
        assert run.usage is not None
        assert [step.type for step in steps] == ["tool_calls", "message_creation"]
    images = [
        part.image_file.file_id
        for message in client.beta.threads.messages.list(thread.id)
        for part in message.content
        if part.type == "image_file"
    ]
    contents = {client.files.content(file_id).read() for file_id in images}
    assert len(contents) == 2
    for content in contents:
        check_png(content)
    with Resource(live.url) as resource:
        assert resource.invoice()["session_count"] == 1


def test_a_polled_run_and_its_steps(azure_client: AzureOpenAI) -> None:
    client = azure_client
    assistant = client.beta.assistants.create(
        model="gpt-4o-mini", tools=[{"type": "code_interpreter"}]
    )
    thread = client.beta.threads.create(
        messages=[{"role": "user", "content": "[[sim calls=3 tokens=90/9/30]]"}]
    )
    run = client.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=assistant.id, poll_interval_ms=20
    )
    assert run.status == "completed"
    assert run.usage is not None
    assert (run.usage.prompt_tokens, run.usage.completion_tokens) == (90, 30)
    steps = client.beta.threads.runs.steps.list(run.id, thread_id=thread.id, limit=1)
    listed = list(steps)  # The SDK follows `has_more` from page to page.
    assert [step.type for step in listed] == ["message_creation"] + ["tool_calls"] * 3


def test_a_function_tool_is_called_and_answered(azure_client: AzureOpenAI) -> None:
    client = azure_client
    assistant = client.beta.assistants.create(
        model="gpt-4o", tools=[{"type": "function", "function": {"name": "get_weather"}}]
    )
    thread = client.beta.threads.create(
        messages=[{"role": "user", "content": "[[sim function=get_weather]]"}]
    )
    run = client.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=assistant.id, poll_interval_ms=20
    )
    assert run.required_action is not None
    (wanted,) = run.required_action.submit_tool_outputs.tool_calls
    assert wanted.function.name == "get_weather"
    run = client.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id,
        thread_id=thread.id,
        tool_outputs=[{"tool_call_id": wanted.id, "output": "sunny"}],
        poll_interval_ms=20,
    )
    assert run.status == "completed"


def test_a_chat_is_streamed_with_its_usage(azure_client: AzureOpenAI) -> None:
    chunks = list(
        azure_client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "[[sim words=4 tokens=7/2/4]]"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == "Here is the answer,"
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens) == (7, 2)


def test_text_completions_plain_and_streamed(azure_client: AzureOpenAI) -> None:
    create = azure_client.completions.create
    plain = create(model="gpt-4o-mini", prompt="hi [[sim words=2]]")
    assert plain.choices[0].text == "Here is"
    stream = create(model="gpt-4o-mini", prompt="hi [[sim words=2]]", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "Here is"


def test_embeddings_are_the_same_as_numbers_and_as_base64(v1_client: OpenAI) -> None:
    model = "text-embedding-3-large"
    packed = v1_client.embeddings.create(model=model, input=["a", "b"], dimensions=8)
    plain = v1_client.embeddings.create(
        model=model, input=["a", "b"], dimensions=8, encoding_format="float"
    )
    for left, right in zip(packed.data, plain.data, strict=True):
        assert left.embedding == pytest.approx(right.embedding)
        assert sum(value * value for value in right.embedding) == pytest.approx(1)
    assert packed.data[0].embedding != packed.data[1].embedding
    assert packed.usage.prompt_tokens == 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_draws_in_a_container(v1_client: OpenAI, stream: bool) -> None:
    with v1_client.responses.stream(
        model="gpt-4o",
        input="draw a diagram",
        tools=[{"type": "code_interpreter", "container": {"type": "auto"}}],
    ) as events:
        streamed = events.get_final_response()
    response: Response = streamed if stream else v1_client.responses.retrieve(streamed.id)
    call, message = response.output
    assert call.type == "code_interpreter_call"
    assert message.type == "message"
    part = message.content[0]
    assert part.type == "output_text"
    (citation,) = part.annotations
    assert citation.type == "container_file_citation"
    assert citation.container_id == call.container_id
    content = v1_client.containers.files.content.retrieve(
        citation.file_id, container_id=citation.container_id
    )
    check_png(content.read())


def test_a_plain_response_has_outputs_only_if_asked(v1_client: OpenAI) -> None:
    container = v1_client.containers.create(name="mine")
    plain, full = [
        v1_client.responses.create(
            model="gpt-4o",
            input="calculate 3 + 4",
            tools=[{"type": "code_interpreter", "container": container.id}],
            include=["code_interpreter_call.outputs"] if asked else [],
        ).output[0]
        for asked in (False, True)
    ]
    assert plain.type == full.type == "code_interpreter_call"
    assert plain.outputs is None
    assert full.outputs is not None
    assert full.outputs[0].type == "logs"
    assert [row.id for row in v1_client.containers.list()] == [container.id]


@pytest.mark.parametrize(
    ("directive", "error"),
    [
        ("status=429", openai.RateLimitError),
        ("status=500", openai.InternalServerError),
        ("delay_s=5", openai.APITimeoutError),
        ("cut=1", openai.APIConnectionError),
    ],
)
def test_faults_become_the_sdks_errors(
    v1_client: OpenAI, directive: str, error: type[openai.APIError]
) -> None:
    timeout_s = 0.5 if error is openai.APITimeoutError else 20.0
    with pytest.raises(error):
        v1_client.with_options(timeout=timeout_s).responses.create(
            model="gpt-4o", input=f"[[sim {directive}]]"
        )


@pytest.mark.anyio
async def test_many_runs_at_once_are_charged_one_by_one(live: LiveSimulator) -> None:
    async with AsyncAzureOpenAI(
        azure_endpoint=live.url, api_key=KEY, api_version=VERSION, max_retries=0
    ) as client:
        assistant = await client.beta.assistants.create(
            model="gpt-4o", tools=[{"type": "code_interpreter"}]
        )

        async def ask() -> str:
            text = "compute [[sim tokens=10/0/1]]"
            thread: Thread = {"messages": [{"role": "user", "content": text}]}
            run = await client.beta.threads.create_and_run_poll(
                assistant_id=assistant.id, thread=thread, poll_interval_ms=20
            )
            return run.status

        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask()) for _ in range(5)]
        assert {task.result() for task in asked} == {"completed"}
    with Resource(live.url) as resource:
        invoice = resource.invoice()
    assert invoice["session_count"] == 5
    assert invoice["total_nano_usd"] == 5 * (30_000_000 + 10 * 2500 + 10_000)


def test_base64_embeddings_are_little_endian_floats(live: LiveSimulator) -> None:
    with Resource(live.url) as resource:
        body = {"model": "text-embedding-3-small", "input": "a", "encoding_format": "base64"}
        (row,) = resource.v1("POST", "/embeddings", body).json()["data"]
        assert len(base64.b64decode(row["embedding"])) == 4 * 1536
