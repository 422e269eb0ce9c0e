"""A program with the openai SDK of today.

    python -m tests.clients.programs.openai_python azure|azure-async|v1|v1-async URL KEY

Asynchronous clients play the same story: `Waited` awaits on one loop whatever they answer.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import openai

from tests.clients.programs.steps import (
    chat,
    delete,
    reach_the_cap,
    run_twice,
    tell,
    tell_content,
    tell_refusal,
    upload,
)

VERSION = "2025-04-01-preview"
INTERPRETER = {"type": "code_interpreter"}
AUTO = {"type": "code_interpreter", "container": {"type": "auto"}}


class Waited:
    """An asynchronous client, or a part of one, used as if it were synchronous."""

    def __init__(self, inner: Any, runner: asyncio.Runner) -> None:
        self._inner = inner
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._called(found) if inspect.ismethod(found) else Waited(found, self._runner)

    def _called(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def answer(*given: Any, **named: Any) -> Any:
            answered = method(*given, **named)
            return await answered if inspect.isawaitable(answered) else answered

        def call(*given: Any, **named: Any) -> Any:
            answered = self._runner.run(answer(*given, **named))
            return self._each(answered) if isinstance(answered, openai.AsyncStream) else answered

        return call

    def _each(self, stream: openai.AsyncStream[Any]) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(stream, None)

        while (event := self._runner.run(following())) is not None:
            yield event


def assistants(client: Any) -> None:
    """An assistant draws what stands in a file."""
    file = upload(client)
    beta = client.beta
    assistant = beta.assistants.create(
        model="gpt-4o",
        tools=[INTERPRETER],
        tool_resources={"code_interpreter": {"file_ids": [file]}},
    )
    tell("assistant", id=assistant.id, tools=[tool.type for tool in assistant.tools])
    thread = beta.threads.create()
    tell("thread", id=thread.id)
    message = beta.threads.messages.create(
        thread.id,
        role="user",
        content="Please plot the words by minute",
        attachments=[{"file_id": file, "tools": [INTERPRETER]}],
    )
    tell("message", id=message.id, files=[each.file_id for each in message.attachments])
    run_twice(client, thread.id, assistant.id)
    reach_the_cap(client, assistant.id)
    delete(client, thread=thread.id, assistant=assistant.id, file=file)


def containers(client: Any) -> None:
    """A response draws in a container of its own, and the drawing is fetched from there."""
    file = upload(client)
    made = client.responses.create(model="gpt-4o", input="Please plot it", tools=[AUTO])
    parts = [part for item in made.output if item.type == "message" for part in item.content]
    cited = [each for part in parts for each in part.annotations]
    drawn = next(each for each in cited if each.type == "container_file_citation")
    kinds = [item.type for item in made.output]
    tell("container response", status=made.status, kinds=kinds)
    listed = client.containers.files.list(drawn.container_id).data
    tell("container files", ids=[each.id for each in listed], drawn=drawn.file_id)
    content = client.containers.files.content.retrieve(
        drawn.file_id, container_id=drawn.container_id
    )
    place = f"containers/{drawn.container_id}/files/{drawn.file_id}"
    tell_content("download", place, content.read())
    tell_refusal(
        "session cap",
        lambda: client.responses.create(model="gpt-4o", input="Please plot it", tools=[AUTO]),
    )
    client.responses.delete(made.id)
    tell("delete", deleted=[client.files.delete(file).deleted])
    tell_refusal("after delete", lambda: client.files.retrieve(file))


def responses(client: Any) -> None:
    """A response, plain and streamed."""
    made = client.responses.create(model="gpt-4o", input="hello")
    tell("response", status=made.status, text=made.output_text)
    events = client.responses.create(model="gpt-4o", input="hello", stream=True)
    tell("response streamed", events=[event.type for event in events])


def opened(kind: str, url: str, key: str, runner: asyncio.Runner) -> Any:
    """Return the client as a developer would set it up."""
    v1 = f"{url}/openai/v1/"
    match kind:
        case "azure":
            return openai.AzureOpenAI(azure_endpoint=url, api_key=key, api_version=VERSION)
        case "azure-async":
            azure = openai.AsyncAzureOpenAI(azure_endpoint=url, api_key=key, api_version=VERSION)
            return Waited(azure, runner)
        case "v1":
            return openai.OpenAI(base_url=v1, api_key=key)
        case _:
            return Waited(openai.AsyncOpenAI(base_url=v1, api_key=key), runner)


def main(kind: str, url: str, key: str) -> None:
    """Play the story of one client."""
    warnings.simplefilter("ignore", DeprecationWarning)
    with asyncio.Runner() as runner:
        client = opened(kind, url, key, runner)
        tell("client", version=openai.__version__)
        (assistants if kind.startswith("azure") else containers)(client)
        chat(client)
        responses(client)
        client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
