"""Projects: the same objects under `/api/projects`, as Microsoft's own SDK reads them, over TLS."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from azure.ai.agents import AgentsClient
from azure.ai.agents.models import (
    AgentEventHandler,
    CodeInterpreterTool,
    CodeInterpreterToolResource,
    FilePurpose,
    FunctionTool,
    MessageRole,
    RunStatus,
    SubmitToolOutputsAction,
    ThreadRun,
    ToolOutput,
    ToolResources,
)
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError

from gateway.simulator import LiveSimulator, SimulatorConfig
from tests.simulator.resource import CODE_INTERPRETER, START_S, Resource

ROOT = "/api/projects/books"
FAR_S = 4_000_000_000


class Identity:
    """A credential that always has the same token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        """Return the token."""
        return AccessToken(self._token, FAR_S)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def live(authority: trustme.CA, tmp_path: Path) -> Iterator[LiveSimulator]:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(key)
    for blob in issued.cert_chain_pems:
        blob.write_to_path(certificate, append=True)
    config = SimulatorConfig(run_s=0.05)
    with LiveSimulator(config, tls=(str(certificate), str(key))) as simulator:
        yield simulator


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path) -> str:
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(trusted)
    return str(trusted)


@pytest.fixture
def agents(live: LiveSimulator, trusted: str) -> Iterator[AgentsClient]:
    identity = Identity("entra-simulator-token")
    with AgentsClient(live.url + ROOT, identity, connection_verify=trusted) as client:
        yield client


def test_an_agent_draws_and_its_picture_can_be_fetched(
    agents: AgentsClient, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("a,b\n1,2\n")
    file = agents.files.upload_and_poll(file_path=str(rows), purpose=FilePurpose.AGENTS)
    resources = ToolResources(code_interpreter=CodeInterpreterToolResource(file_ids=[file.id]))
    agent = agents.create_agent(
        model="gpt-4o",
        name="painter",
        tools=CodeInterpreterTool().definitions,
        tool_resources=resources,
    )
    thread = agents.threads.create()
    agents.messages.create(thread_id=thread.id, role=MessageRole.USER, content="draw the rows")
    run = agents.runs.create_and_process(thread_id=thread.id, agent_id=agent.id, polling_interval=0)
    assert run.status == RunStatus.COMPLETED
    assert run.agent_id == agent.id
    assert run.usage.total_tokens > 0
    steps = list(agents.run_steps.list(thread_id=thread.id, run_id=run.id))
    assert [step.type for step in steps] == ["message_creation", "tool_calls"]
    message = next(iter(agents.messages.list(thread_id=thread.id)))
    (image,) = message.image_contents
    content = b"".join(agents.files.get_content(image.image_file.file_id))
    assert content.startswith(b"\x89PNG")
    assert [row.id for row in agents.threads.list()] == [thread.id]
    agents.threads.delete(thread.id)
    agents.delete_agent(agent.id)
    assert list(agents.list_agents()) == []


def test_a_run_is_streamed_to_a_handler(agents: AgentsClient) -> None:
    class Listener(AgentEventHandler[str]):
        statuses: list[str]

        def on_thread_run(self, run: ThreadRun) -> None:
            self.statuses.append(run.status)

    listener = Listener()
    listener.statuses = []
    agent = agents.create_agent(model="gpt-4o", tools=CodeInterpreterTool().definitions)
    thread = agents.threads.create()
    agents.messages.create(thread_id=thread.id, role="user", content="compute this")
    with agents.runs.stream(
        thread_id=thread.id, agent_id=agent.id, event_handler=listener
    ) as stream:
        stream.until_done()
    assert listener.statuses == ["queued", "queued", "in_progress", "completed"]


def test_an_agents_function_is_answered(agents: AgentsClient) -> None:
    def get_weather(city: str) -> str:
        """Return the weather.

        :param city: Where.
        """
        return city

    agent = agents.create_agent(
        model="gpt-4o", tools=FunctionTool(functions={get_weather}).definitions
    )
    thread = agents.threads.create()
    text = "[[sim function=get_weather]]"
    agents.messages.create(thread_id=thread.id, role="user", content=text)
    run = agents.runs.create(thread_id=thread.id, agent_id=agent.id)
    while run.status in ("queued", "in_progress"):
        run = agents.runs.get(thread_id=thread.id, run_id=run.id)
    assert isinstance(run.required_action, SubmitToolOutputsAction)
    (wanted,) = run.required_action.submit_tool_outputs.tool_calls
    outputs = [ToolOutput(tool_call_id=wanted.id, output="sunny")]
    run = agents.runs.submit_tool_outputs(thread_id=thread.id, run_id=run.id, tool_outputs=outputs)
    while run.status in ("queued", "in_progress"):
        run = agents.runs.get(thread_id=thread.id, run_id=run.id)
    assert run.status == RunStatus.COMPLETED


def test_a_projects_vector_stores_take_files_one_by_one_and_in_batches(
    agents: AgentsClient, tmp_path: Path
) -> None:
    text = tmp_path / "notes.md"
    text.write_text("alpha")
    file = agents.files.upload(file_path=str(text), purpose=FilePurpose.AGENTS)
    store = agents.vector_stores.create_and_poll(name="notes", polling_interval=0)
    batch = agents.vector_store_file_batches.create_and_poll(
        vector_store_id=store.id, file_ids=[file.id], polling_interval=0
    )
    assert (batch.status, batch.file_counts.completed) == ("completed", 1)
    listed = [row.id for row in agents.vector_store_files.list(store.id)]
    assert listed == [file.id]
    agents.vector_stores.delete(store.id)
    assert list(agents.vector_stores.list()) == []


def test_a_token_nobody_issued_is_refused(live: LiveSimulator, trusted: str) -> None:
    client = AgentsClient(live.url + ROOT, Identity("stolen"), connection_verify=trusted)
    with client, pytest.raises(HttpResponseError) as refused:
        list(client.list_agents())
    assert refused.value.status_code == 401


def test_a_certificate_nobody_trusts_is_refused_by_the_client(live: LiveSimulator) -> None:
    with (
        httpx.Client(verify=ssl.create_default_context()) as client,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.get(live.url + ROOT)


@pytest.mark.parametrize(
    ("version", "status"),
    [("v1", 200), ("2025-05-01", 200), ("2025-05-15-preview", 200), ("2024-05-01-preview", 400)],
)
def test_a_project_takes_versions_of_its_own(azure: Resource, version: str, status: int) -> None:
    answer = azure.http.get(f"{ROOT}/assistants?api-version={version}")
    assert answer.status_code == status


@pytest.mark.parametrize(
    "target",
    [
        f"{ROOT}/assistants",
        "/api/projects//assistants?api-version=v1",
        "/api/projects/books?api-version=v1",
        f"{ROOT}/responses?api-version=v1",
    ],
)
def test_a_project_has_no_other_routes(azure: Resource, target: str) -> None:
    assert azure.http.get(target).status_code == 404


def test_a_threads_session_in_a_project_idles_out_after_half_an_hour(azure: Resource) -> None:
    def send(path: str, body: dict[str, Any]) -> Any:
        answer = azure.http.post(f"{ROOT}{path}?api-version=v1", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    agent = send("/assistants", {"model": "gpt-4o", "tools": [CODE_INTERPRETER]})["id"]
    thread = send("/threads", {})["id"]

    def compute() -> None:
        message = {"role": "user", "content": "compute it [[sim run_s=0]]"}
        send(f"/threads/{thread}/messages", message)
        send(f"/threads/{thread}/runs", {"assistant_id": agent})
        azure.invoice()

    opened = []
    for wait_s in (0, 1799, 1800, 1799, 1799, 2):
        azure.advance(wait_s)
        compute()
        opened.append(azure.invoice()["session_count"])
    assert opened == [1, 1, 2, 2, 2, 3]
    sessions = azure.invoice()["sessions"]
    assert {session["kind"] for session in sessions} == {"thread"}
    moments = [session["opened_at"] - START_S for session in sessions]
    assert moments == [0, 3599, 3599 + 3600]
