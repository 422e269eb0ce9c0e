"""A program of April 2024, with openai 1.20 and the first Assistants.

    python -m tests.clients.programs.openai_1_20 azure URL KEY

Files hang directly on assistants and messages (`file_ids`); there are no `tool_resources`.
"""

from __future__ import annotations

import sys

import openai

from tests.clients.programs.steps import chat, delete, reach_the_cap, run_twice, tell, upload

VERSION = "2024-02-15-preview"


def assistants(client: openai.AzureOpenAI) -> None:
    """An assistant draws what stands in a file."""
    file = upload(client)
    beta = client.beta
    assistant = beta.assistants.create(  # type: ignore[call-arg]
        model="gpt-4o", tools=[{"type": "code_interpreter"}], file_ids=[file]
    )
    tell("assistant", id=assistant.id, tools=[tool.type for tool in assistant.tools])
    tell("assistant's files", ids=assistant.file_ids)  # type: ignore[attr-defined]
    thread = beta.threads.create()
    tell("thread", id=thread.id)
    message = beta.threads.messages.create(  # type: ignore[call-arg]
        thread.id, role="user", content="Please plot the words by minute", file_ids=[file]
    )
    tell("message", id=message.id, files=message.file_ids)  # type: ignore[attr-defined]
    run_twice(client, thread.id, assistant.id)
    reach_the_cap(client, assistant.id)
    delete(client, thread=thread.id, assistant=assistant.id, file=file)


def main(_kind: str, url: str, key: str) -> None:
    """Play the story."""
    client = openai.AzureOpenAI(azure_endpoint=url, api_key=key, api_version=VERSION)
    tell("client", version=openai.__version__)
    assistants(client)
    chat(client)
    client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
