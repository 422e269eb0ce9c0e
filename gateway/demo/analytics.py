"""What team analytics does: the seed of it all, an assistant that runs code and draws.

Source: Azure OpenAI documentation, "Assistants code interpreter (preview)": upload, assistant,
thread, run, download of a generated picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from openai import AzureOpenAI
from openai.types.beta.assistant_stream_event import ThreadRunCompleted, ThreadRunStepCompleted
from openai.types.beta.threads import Run

from gateway.demo.scene import Scene, Step, StoryBroke, expect, message_of, refused

TEAM: Final = "analytics"
PICTURE: Final = Path("demo-out", "my-image.png")

SPEECH = b"""\
import numpy as np

words_per_minute = np.array([112, 131, 127, 140, 98])
print(words_per_minute.mean())
"""
# What every Windows program begins with.
PROGRAM = b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff\x00\x00\xb8\x00\x00\x00" + bytes(44)
INSTRUCTIONS = "You are an AI assistant that can write code to help answer math questions."


def upload(scene: Scene) -> Iterator[str]:
    """A file for the assistant's tools."""
    file = scene.analytics.files.create(file=("speech.py", SPEECH), purpose="assistants")
    scene.memory.file = file.id
    yield f"{file.id}, {file.bytes} bytes"


def disguise(scene: Scene) -> Iterator[str]:
    """A program that calls itself a table."""
    error = refused(
        lambda: scene.analytics.files.create(
            file=("figures.csv", PROGRAM, "text/csv"), purpose="assistants"
        ),
        status=415,
        code="unsupported_file_type",
    )
    yield f"{error.status_code} {error.code}: {message_of(error)}"


def assistant(scene: Scene) -> Iterator[str]:
    """An assistant that may run code and read the file."""
    made = scene.analytics.beta.assistants.create(
        instructions=INSTRUCTIONS,
        model="gpt-4o-mini",
        tools=[{"type": "code_interpreter"}],
        tool_resources={"code_interpreter": {"file_ids": [scene.memory.file]}},
    )
    scene.memory.assistant = made.id
    yield f"{made.id}; enabling the tool costs nothing"


def streamed_run(scene: Scene) -> Iterator[str]:
    """A run that is watched as it happens and opens a session."""
    client, memory = scene.analytics, scene.memory
    memory.thread = _thread(client, "Please plot how fast I speak in speech.py")
    stream = client.beta.threads.runs.create(
        thread_id=memory.thread, assistant_id=memory.assistant, stream=True
    )
    events, calls = 0, 0
    run: Run | None = None
    with stream:
        for event in stream:
            events += 1
            if isinstance(event, ThreadRunStepCompleted):
                calls += event.data.type == "tool_calls"
            if isinstance(event, ThreadRunCompleted):
                run = event.data
    if run is None or run.usage is None:
        raise StoryBroke("the streamed run did not complete with its usage")
    memory.run = run.id
    told = stream.response.headers.get("x-gateway-session")
    expect(that="x-gateway-session before the first call", got=told, wanted="reserved")
    expect(that="calls of the interpreter", got=calls, wanted=1)
    expect(that="sessions of the team", got=scene.sessions_used(TEAM), wanted=1)
    yield f"{events} events, {calls} interpreter call, {run.usage.total_tokens} tokens"
    yield f"x-gateway-session: {told} (one was set aside, then opened: 1 of 2 today)"


def picture(scene: Scene) -> Iterator[str]:
    """The picture that the run drew, byte for byte as Azure holds it."""
    messages = scene.analytics.beta.threads.messages.list(scene.memory.thread)
    parts = [part for message in messages for part in message.content]
    drawn = [part.image_file.file_id for part in parts if part.type == "image_file"]
    expect(that="pictures in the thread", got=len(drawn), wanted=1)
    content = scene.analytics.files.content(drawn[0]).read()
    at_azure = scene.azure.files.content(drawn[0]).read()
    expect(that="the download equals what Azure drew", got=content == at_azure, wanted=True)
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(content)
    yield f"{len(content)} bytes, the same as at Azure; saved to {PICTURE}"


def steps(scene: Scene) -> Iterator[str]:
    """What the run did, step by step."""
    listed = scene.analytics.beta.threads.runs.steps.list(
        scene.memory.run, thread_id=scene.memory.thread, order="asc"
    )
    kinds = [step.type for step in listed]
    expect(that="steps of the run", got=kinds, wanted=["tool_calls", "message_creation"])
    yield ", ".join(kinds)


def second_run(scene: Scene) -> Iterator[str]:
    """A run in the same thread within the hour: the session is open already."""
    client, memory = scene.analytics, scene.memory
    question = "Now solve the equation 3x + 11 = 14 too"
    client.beta.threads.messages.create(memory.thread, role="user", content=question)
    reply = client.beta.threads.runs.with_raw_response.create(
        thread_id=memory.thread, assistant_id=memory.assistant
    )
    told = reply.headers.get("x-gateway-session")
    expect(that="x-gateway-session within the hour", got=told, wanted="open")
    run = client.beta.threads.runs.poll(
        reply.parse().id, thread_id=memory.thread, poll_interval_ms=100
    )
    expect(that="status of the run", got=run.status, wanted="completed")
    expect(that="sessions of the team", got=scene.sessions_used(TEAM), wanted=1)
    yield f"{run.status}; x-gateway-session: {told} (no second charge: still 1 of 2)"


def second_thread(scene: Scene) -> Iterator[str]:
    """Another thread is another session, even at the same moment."""
    client, memory = scene.analytics, scene.memory
    thread = _thread(client, "Please compute the average of my words per minute")
    run = client.beta.threads.runs.create_and_poll(
        thread_id=thread, assistant_id=memory.assistant, poll_interval_ms=100
    )
    expect(that="status of the run", got=run.status, wanted="completed")
    expect(that="sessions of the team", got=scene.sessions_used(TEAM), wanted=2)
    yield f"{run.status}; 2 of 2 sessions used today"


def third_thread(scene: Scene) -> Iterator[str]:
    """A third thread is one too many; the SDK is told once and does not try again."""
    client, memory = scene.analytics, scene.memory
    thread = _thread(client, "Please draw a diagram of the loudness")
    before = scene.requests_arrived(TEAM)
    error = refused(
        lambda: client.beta.threads.runs.create(thread_id=thread, assistant_id=memory.assistant),
        status=429,
        code="insufficient_quota",
    )
    arrived = scene.requests_arrived(TEAM) - before
    expect(that="requests that reached the gateway", got=arrived, wanted=1)
    yield f"{type(error).__name__}, {error.status_code} {error.code}: {message_of(error)}"
    yield f"{arrived} request reached the gateway: the SDK did not retry in vain"


def chat(scene: Scene) -> Iterator[str]:
    """Two chats; the bracket tells the simulated Azure which tokens to count."""
    create = scene.analytics.chat.completions.create
    plain = create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "Shorten my speech [[sim tokens=2400/2048/180]]"}],
    )
    usage = plain.usage
    if usage is None or usage.prompt_tokens_details is None:
        raise StoryBroke("the chat came back without its usage")
    cached = usage.prompt_tokens_details.cached_tokens
    yield f"plain: {usage.prompt_tokens} tokens in ({cached} cached), {usage.completion_tokens} out"
    chunks = create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "Say hello [[sim tokens=900/512/60]]"}],
        stream=True,
    )
    words = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    expect(that="the stream said something", got=bool(words), wanted=True)
    yield f"streamed: {words!r}; metered, though the client did not ask for usage"


def _thread(client: AzureOpenAI, question: str) -> str:
    thread = client.beta.threads.create()
    client.beta.threads.messages.create(thread.id, role="user", content=question)
    return thread.id


STEPS: Final = (
    Step(
        TEAM,
        "uploads a file",
        'client.files.create(file=open("speech.py", "rb"), purpose="assistants")',
        upload,
    ),
    Step(
        TEAM,
        "uploads a program renamed to figures.csv",
        'client.files.create(file=open("figures.csv", "rb"), purpose="assistants")',
        disguise,
    ),
    Step(
        TEAM,
        "creates an assistant that may run code",
        'client.beta.assistants.create(tools=[{"type": "code_interpreter"}], ...)',
        assistant,
    ),
    Step(
        TEAM,
        "starts a run in a thread and streams it",
        "client.beta.threads.runs.create(thread_id=..., stream=True)",
        streamed_run,
    ),
    Step(TEAM, "downloads the picture it drew", "client.files.content(file_id).read()", picture),
    Step(
        TEAM,
        "looks at what the run did",
        "client.beta.threads.runs.steps.list(run_id, thread_id=...)",
        steps,
    ),
    Step(
        TEAM,
        "asks again in the same thread and polls",
        "client.beta.threads.runs.poll(run_id, thread_id=...)",
        second_run,
    ),
    Step(
        TEAM,
        "opens another thread",
        "client.beta.threads.runs.create_and_poll(thread_id=...)",
        second_thread,
    ),
    Step(
        TEAM,
        "opens a third thread, one more than its cap allows",
        "client.beta.threads.runs.create(thread_id=...)",
        third_thread,
    ),
    Step(
        TEAM,
        "chats, plain and streamed",
        "client.chat.completions.create(..., stream=True)",
        chat,
    ),
)
