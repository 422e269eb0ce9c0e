"""What every Python client does alike; each step prints a JSON line with what it saw."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from typing import Any

import openai

TABLE = b"minute,words\n1,112\n2,131\n3,127\n"
PROGRAM = b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff\x00\x00"


def tell(step: str, **seen: object) -> None:
    """Print what a step saw."""
    sys.stdout.write(json.dumps({"step": step, **seen}) + "\n")


def tell_refusal(step: str, call: Callable[[], object]) -> None:
    """Print the exception that a call raises; a call that goes through tells nothing."""
    try:
        call()
    except openai.APIStatusError as error:
        tell(
            step,
            error=type(error).__name__,
            status=error.status_code,
            code=error.code,
            message=error.message,
        )


def tell_content(step: str, file: str, content: bytes) -> None:
    """Print which file was downloaded and what it was."""
    tell(step, file=file, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def upload(client: Any) -> str:
    """Upload a table, list it, be refused a program, and return the table's id."""
    file = client.files.create(file=("table.csv", TABLE), purpose="assistants")
    tell("upload", id=file.id, bytes=file.bytes, filename=file.filename, purpose=file.purpose)
    tell("list files", ids=[each.id for each in client.files.list().data])
    tell_refusal(
        "refused upload",
        lambda: client.files.create(file=("setup.exe", PROGRAM), purpose="assistants"),
    )
    return str(file.id)


def run_twice(client: Any, thread: str, assistant: str) -> None:
    """Watch one run and poll another; read what the first one did and fetch what it drew."""
    threads = client.beta.threads
    events = list(threads.runs.create(thread_id=thread, assistant_id=assistant, stream=True))
    run = next(each for each in events if each.event == "thread.run.completed").data
    names = [each.event for each in events]
    tell("streamed run", events=names, status=run.status, tokens=run.usage.total_tokens)
    polled = threads.runs.create_and_poll(
        thread_id=thread, assistant_id=assistant, poll_interval_ms=20
    )
    tell("polled run", status=polled.status, tokens=polled.usage.total_tokens)
    steps = threads.runs.steps.list(run.id, thread_id=thread, order="asc").data
    tell("steps", kinds=[step.type for step in steps])
    listed = threads.messages.list(thread, order="asc").data
    parts = [part for message in listed for part in message.content]
    pictures = [part.image_file.file_id for part in parts if part.type == "image_file"]
    tell("messages", roles=[each.role for each in listed], pictures=len(pictures))
    tell_content("download", f"files/{pictures[0]}", client.files.content(pictures[0]).read())


def reach_the_cap(client: Any, assistant: str) -> None:
    """Start a run in another thread, which would be a session too many."""
    question = {"role": "user", "content": "Please draw it again"}
    other = client.beta.threads.create(messages=[question])
    tell_refusal(
        "session cap",
        lambda: client.beta.threads.runs.create(thread_id=other.id, assistant_id=assistant),
    )


def delete(client: Any, *, thread: str, assistant: str, file: str) -> None:
    """Delete what was made."""
    gone = (
        client.beta.threads.delete(thread),
        client.beta.assistants.delete(assistant),
        client.files.delete(file),
    )
    tell("delete", deleted=[each.deleted for each in gone])
    tell_refusal("after delete", lambda: client.beta.threads.retrieve(thread))


def chat(client: Any) -> None:
    """Chat, plain and streamed, and embeddings."""
    question = [{"role": "user", "content": "hello"}]
    whole = client.chat.completions.create(model="gpt-4o", messages=question)
    tell("chat", text=whole.choices[0].message.content, tokens=whole.usage.total_tokens)
    chunks = client.chat.completions.create(model="gpt-4o", messages=question, stream=True)
    words = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    tell("chat streamed", text="".join(words), chunks=len(words))
    vectors = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    tell("embeddings", vectors=len(vectors.data), numbers=len(vectors.data[0].embedding))
