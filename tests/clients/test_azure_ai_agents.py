"""azure-ai-agents, Microsoft's SDK for Foundry projects: over TLS, with a bearer token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from azure.ai.agents import AgentsClient
from azure.ai.agents.models import (
    CodeInterpreterTool,
    CodeInterpreterToolResource,
    FilePurpose,
    MessageAttachment,
    MessageRole,
    RunStepDeltaChunk,
    ThreadRun,
    ToolResources,
)
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError

from gateway.app import running
from gateway.policies import load_policies
from gateway.simulator import LiveSimulator, SimulatorConfig
from tests.clients.playing import (
    PROGRAM_S,
    REFUSED_TWICE_AND_GONE,
    Steps,
    runs_going_on,
    saw_an_upload,
    saw_assistants,
    went_well,
)
from tests.clients.programs.steps import PROGRAM, TABLE
from tests.street.living import (
    AZURE_KEY,
    DEADLINE_S,
    START_S,
    TEAMS,
    HandClock,
    Street,
    issue_keys,
    session_cap,
    session_caps,
    write_policies,
    write_settings,
)

pytestmark = pytest.mark.anyio

ROOT = "/api/projects/books"
FAR_S = 4_000_000_000


class TeamKey:
    """A credential that hands out a team's key where Azure's would hand out a token."""

    def __init__(self, key: str) -> None:
        self._key = key

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        """Return the key; it does not end."""
        return AccessToken(self._key, FAR_S)


@pytest.fixture
def authority(tmp_path: Path) -> str:
    """Write a certificate and its key; return the file of the authority that issued it."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "tls.key")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(tmp_path / "tls.pem", append=True)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    return str(tmp_path / "authority.pem")


@asynccontextmanager
async def _tls_street(folder: Path) -> AsyncIterator[Street]:
    """Yield a street whose callers must speak TLS, with one session a day for each team."""
    write_policies(
        folder / "policies", session_caps(session_cap("one-a-day", "team", 1, period="day"))
    )
    config = SimulatorConfig(wall_clock=False, run_s=10, start_s=START_S)
    async with AsyncExitStack() as stack:
        simulator = stack.enter_context(LiveSimulator(config))
        plain = write_settings(folder, simulator.url)
        certified = replace(plain.listen, tls_cert=folder / "tls.pem", tls_key=folder / "tls.key")
        settings = replace(plain, listen=certified)
        rules, clock = load_policies(settings.policies_dir, TEAMS), HandClock()
        gateway = await stack.enter_async_context(running(settings, rules, clock=clock))
        keys = await issue_keys(gateway, settings)
        azure = await stack.enter_async_context(
            httpx.AsyncClient(base_url=simulator.url, timeout=DEADLINE_S)
        )
        state = simulator.simulator
        yield Street(folder, gateway, clock, azure, keys, {}, simulator.url, state)


class Program:
    """A developer's program; `steps` holds what each of its steps saw."""

    def __init__(self, client: AgentsClient, folder: Path) -> None:
        self._client = client
        self._folder = folder
        self.steps: dict[str, dict[str, Any]] = {}

    def play(self) -> None:
        """Play the demo's story."""
        file, agent = self._upload(), self._agent()
        thread = self._client.threads.create().id
        self.steps["thread"] = {"id": thread}
        tools = CodeInterpreterTool().definitions
        message = self._client.messages.create(
            thread_id=thread,
            role="user",
            content="Please plot the words by minute",
            attachments=[MessageAttachment(file_id=file, tools=tools)],
        )
        listed = [each.file_id for each in message.attachments or ()]
        self.steps["message"] = {"id": message.id, "files": listed}
        self._runs(thread, agent)
        self._results(thread)
        other = self._client.threads.create().id
        self._refused(
            "session cap", lambda: self._client.runs.create(thread_id=other, agent_id=agent)
        )
        self._client.threads.delete(thread)
        self._client.delete_agent(agent)
        self._client.files.delete(file)
        self._refused("after delete", lambda: self._client.threads.get(thread))
        self.steps["left"] = {"agents": [each.id for each in self._client.list_agents()]}

    def _upload(self) -> str:
        path, program = self._folder / "table.csv", self._folder / "setup.exe"
        path.write_bytes(TABLE)
        program.write_bytes(PROGRAM)
        upload, purpose = self._client.files.upload_and_poll, FilePurpose.AGENTS
        file = upload(file_path=str(path), purpose=purpose, polling_interval=0)
        self.steps["upload"] = {
            "id": file.id,
            "bytes": file.bytes,
            "filename": file.filename,
            "purpose": file.purpose,
        }
        self.steps["list files"] = {"ids": [each.id for each in self._client.files.list().data]}
        self._refused("refused upload", lambda: upload(file_path=str(program), purpose=purpose))
        return file.id

    def _agent(self) -> str:
        file = self.steps["upload"]["id"]
        agent = self._client.create_agent(
            model="gpt-4o",
            name="painter",
            tools=CodeInterpreterTool().definitions,
            tool_resources=ToolResources(
                code_interpreter=CodeInterpreterToolResource(file_ids=[file])
            ),
        )
        self.steps["assistant"] = {"id": agent.id, "tools": [tool.type for tool in agent.tools]}
        return agent.id

    def _runs(self, thread: str, agent: str) -> None:
        events, deltas, runs = [], 0, []
        with self._client.runs.stream(thread_id=thread, agent_id=agent) as stream:
            for event, data, _ in stream:
                events.append(str(event))
                deltas += isinstance(data, RunStepDeltaChunk)
                runs += [data] if isinstance(data, ThreadRun) else []
        self.steps["streamed run"] = {
            "events": events,
            "deltas": deltas,
            "status": runs[-1].status,
            "tokens": runs[-1].usage.total_tokens,
        }
        steps = self._client.run_steps.list(thread_id=thread, run_id=runs[-1].id, order="asc")
        self.steps["steps"] = {"kinds": [step.type for step in steps]}
        polled = self._client.runs.create_and_process(
            thread_id=thread, agent_id=agent, polling_interval=0
        )
        self.steps["polled run"] = {
            "status": polled.status,
            "tokens": polled.usage.total_tokens,
        }

    def _results(self, thread: str) -> None:
        messages = list(self._client.messages.list(thread_id=thread, order="asc"))
        pictures = [image.image_file.file_id for each in messages for image in each.image_contents]
        roles = [MessageRole(each.role).value for each in messages]
        self.steps["messages"] = {"roles": roles, "pictures": len(pictures)}
        content = b"".join(self._client.files.get_content(pictures[0]))
        self.steps["download"] = {"file": pictures[0], "content": content}

    def _refused(self, step: str, call: Callable[[], object]) -> None:
        try:
            call()
        except HttpResponseError as error:
            self.steps[step] = {
                "error": type(error).__name__,
                "status": error.status_code,
                "code": error.error.code if error.error is not None else None,
                "message": error.message,
            }


async def test_azure_ai_agents_plays_the_story_over_tls(tmp_path: Path, authority: str) -> None:
    async with _tls_street(tmp_path) as street:
        url = f"https://127.0.0.1:{street.gateway.data_port}{ROOT}"
        # The SDK refuses to hand a token to an address without TLS.
        with AgentsClient(url, TeamKey(street.keys["blue"]), connection_verify=authority) as client:
            program = Program(client, tmp_path)
            async with asyncio.timeout(PROGRAM_S), runs_going_on(street):
                await asyncio.to_thread(program.play)

        steps = program.steps
        assert steps["refused upload"]["error"] == "HttpResponseError"
        saw_an_upload(steps)
        saw_assistants(steps)
        assert steps["streamed run"]["deltas"] > 0
        assert steps["session cap"]["error"] == "HttpResponseError"
        assert (steps["session cap"]["status"], steps["session cap"]["code"]) == (
            429,
            "insufficient_quota",
        )
        assert "`one-a-day`" in steps["session cap"]["message"]
        assert steps["after delete"]["error"] == "ResourceNotFoundError"
        assert steps["left"]["agents"] == []
        await _saw_the_same_picture(street, steps)
        await went_well(street, sessions=1, refusals=REFUSED_TWICE_AND_GONE)


async def _saw_the_same_picture(street: Street, steps: Steps) -> None:
    kept = await street.azure.get(
        f"{ROOT}/files/{steps['download']['file']}/content?api-version=v1",
        headers={"api-key": AZURE_KEY},
    )
    assert kept.status_code == 200, kept.text
    assert steps["download"]["content"] == kept.content != b""
