"""What team research does: newer calls, an older program, a run nobody watches, a foreign file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

from openai import APIStatusError, AzureOpenAI
from openai.types.beta.thread_create_params import Message

from gateway.demo.scene import (
    OLD_VERSION,
    Scene,
    Step,
    StoryBroke,
    expect,
    message_of,
    refused,
)

TEAM: Final = "research"
SAMPLES = b"minute,words\n1,112\n2,131\n3,127\n"


def embedding(scene: Scene) -> Iterator[str]:
    """A vector for a text."""
    made = scene.research.embeddings.create(
        model="text-embedding-3-small", input="how fast does one speak?"
    )
    yield f"{len(made.data[0].embedding)} numbers, {made.usage.total_tokens} tokens"


def response(scene: Scene) -> Iterator[str]:
    """The newer surface: a response runs code in a container, which is a session too."""
    before = scene.sessions_used(TEAM)
    reply = scene.research_v1.responses.with_raw_response.create(
        model="gpt-4o",
        input="Please plot the samples",
        tools=[{"type": "code_interpreter", "container": {"type": "auto"}}],
    )
    made = reply.parse()
    ran = [item.container_id for item in made.output if item.type == "code_interpreter_call"]
    told = reply.headers.get("x-gateway-session")
    expect(that="calls of the interpreter", got=len(ran), wanted=1)
    expect(that="x-gateway-session of the response", got=told, wanted="reserved")
    expect(that="sessions of the response", got=scene.sessions_used(TEAM) - before, wanted=1)
    yield f"{made.status}; container {ran[0][:16]}... counts as 1 session"


def old_program(scene: Scene) -> Iterator[str]:
    """A program of the first Assistants, with `file_ids` in its messages, unchanged."""
    yield f"Azure itself answers it with {_refused_by_azure(scene.azure)}; through the gateway:"
    old = scene.research_old
    file = old.files.create(file=("samples.csv", SAMPLES), purpose="assistants")
    assistant = old.beta.assistants.create(
        model="gpt-4o-mini", tools=[{"type": "code_interpreter"}]
    )
    scene.memory.other_assistant = assistant.id
    # Today's SDK has no type for what messages had then; it sends them as they stand.
    question = {
        "role": "user",
        "content": "I need to solve the equation `3x + 11 = 14`. Can you help me?",
        "file_ids": [file.id],
    }
    thread = old.beta.threads.create(messages=[cast(Message, question)])
    run = old.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=assistant.id, poll_interval_ms=100
    )
    expect(that="status of the run", got=run.status, wanted="completed")
    shown = [
        message.to_dict().get("file_ids")
        for message in old.beta.threads.messages.list(thread.id, order="asc")
    ]
    expect(that="`file_ids` of question and answer", got=shown, wanted=[[file.id], []])
    yield f"{run.status}; it was sent on in the newer shape, and the messages came back with"
    yield f"their file_ids as before: {shown[0]}"


def unwatched_run(scene: Scene) -> Iterator[str]:
    """A run that is started and never looked at again; the gateway finds out what it cost."""
    thread = scene.research.beta.threads.create()
    scene.research.beta.threads.messages.create(
        thread.id, role="user", content="Please calculate the median of the samples"
    )
    reply = scene.research.beta.threads.runs.with_raw_response.create(
        thread_id=thread.id, assistant_id=scene.memory.other_assistant
    )
    expect(that="status of the run", got=reply.parse().status, wanted="queued")
    request = reply.headers["x-request-id"]
    yield "queued, and the program ends here"
    page = scene.settled(request, TEAM)
    found = {line["meter"]: line["quantity"] for line in page["lines"]}
    expect(that="sessions billed", got=found.get("code_interpreter_session"), wanted=1)
    counted = ", ".join(f"{meter} {quantity}" for meter, quantity in found.items())
    yield f"the gateway looked itself: {page['state']}, ${page['usd']} ({counted})"


def foreign_file(scene: Scene) -> Iterator[str]:
    """Another team's file looks exactly like none."""
    retrieve = scene.research.files.retrieve
    foreign = refused(lambda: retrieve(scene.memory.file), status=404, code="not_found")
    unknown = refused(lambda: retrieve("assistant-nobodys"), status=404, code="not_found")
    same = foreign.response.content == unknown.response.content
    expect(that="a foreign id is answered like an unknown one", got=same, wanted=True)
    yield f"{type(foreign).__name__}, {foreign.status_code} {foreign.code}: {message_of(foreign)}"
    yield "an id that nobody has is answered with the same bytes"


def _refused_by_azure(azure: AzureOpenAI) -> str:
    try:
        azure.with_options(api_version=OLD_VERSION).beta.assistants.list()
    except APIStatusError as error:
        expect(that="Azure's status for the retired version", got=error.status_code, wanted=400)
        return str(error.status_code)
    raise StoryBroke(f"Azure still serves `{OLD_VERSION}`")


STEPS: Final = (
    Step(
        TEAM,
        "embeds a text",
        'client.embeddings.create(model="text-embedding-3-small", ...)',
        embedding,
    ),
    Step(
        TEAM,
        "asks for a response that runs code",
        'OpenAI(base_url=".../openai/v1/").responses.create(tools=[...], ...)',
        response,
    ),
    Step(
        TEAM,
        f"starts an old program, written for {OLD_VERSION}",
        'client.beta.threads.create(messages=[{..., "file_ids": [file.id]}])',
        old_program,
    ),
    Step(
        TEAM,
        "starts a run and never looks at it again",
        "client.beta.threads.runs.create(thread_id=...)",
        unwatched_run,
    ),
    Step(
        TEAM,
        "tries to read a file of team analytics",
        "client.files.retrieve(file_id)",
        foreign_file,
    ),
)
