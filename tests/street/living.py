"""A gateway and a simulated Azure, alive in one test: both on real ports, both on one clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
from openai import AsyncAzureOpenAI, AsyncOpenAI

from gateway.app import Gateway, running
from gateway.control import issue_key
from gateway.core.callers import KeyRing
from gateway.core.ledger import ORGANISATION, team_account
from gateway.core.model import SECOND
from gateway.policies import load_policies, shipped_policies
from gateway.ports import LedgerRow
from gateway.settings import Settings, load_pepper, load_settings
from gateway.simulator import LiveSimulator, Simulator, SimulatorConfig
from tests.street.evidence import (
    estimates,
    invoiced_sessions,
    invoiced_tokens,
    sessions_by_scope,
    tokens_by_model,
    total,
)

AZURE_KEY = "azure-simulator-key"
VERSION = "2024-05-01-preview"
START_S = 1_790_000_000
INTERPRETER = {"type": "code_interpreter"}
AUTO = {"type": "code_interpreter", "container": {"type": "auto"}}
TEAMS = ("blue", "red")
SESSION_NANO_USD = 30_000_000
DEADLINE_S = 30.0
# The policy change that permits vector stores, beside the tools that are shipped.
STORES_PERMITTED = {
    "models.toml": '=tools = ["code_interpreter", "function", "file_search"]\n'
    'unmetered = ["file_search"]\n'
}
PRICES = "prices.toml"

_TOML = """
policies = "policies"
{price_book}
request_bytes_max = 1048576
settle_timeout_s = {settle_timeout_s}
drain_s = 20
[listen]
data = "127.0.0.1:0"
admin = "127.0.0.1:0"
[store]
url = "sqlite:///ledger.db"
[spool]
dir = "spool"
[[upstream]]
name = "azure"
kind = "azure-openai"
endpoint = "{endpoint}"
api_key = "env:AZURE_KEY"
{region}
[[upstream]]
name = "foundry"
kind = "foundry"
endpoint = "{endpoint}/api/projects/books"
api_key = "env:AZURE_KEY"
carries_dated = {carries_dated}
[[team]]
id = "blue"
name = "Blue"
[[team]]
id = "red"
name = "Red"
"""


class HandClock:
    """A clock that stands still until it is moved; it begins where the simulator's does."""

    def __init__(self) -> None:
        self.at = START_S * SECOND

    def now(self) -> int:
        """Return microseconds since the epoch, UTC."""
        return self.at


@dataclass
class Street:
    """Everything a story touches. `blue` and `red` are HTTP clients with those teams' keys."""

    folder: Path
    gateway: Gateway
    clock: HandClock
    azure: httpx.AsyncClient
    keys: Mapping[str, str]
    clients: Mapping[str, httpx.AsyncClient]
    simulator_url: str
    simulator: Simulator
    sdk_clients: list[Any] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The data plane's address."""
        return f"http://127.0.0.1:{self.gateway.data_port}"

    @property
    def admin_url(self) -> str:
        """The admin plane's address."""
        return f"http://127.0.0.1:{self.gateway.admin_port}"

    @property
    def blue(self) -> httpx.AsyncClient:
        """A client of team blue."""
        return self.clients["blue"]

    @property
    def red(self) -> httpx.AsyncClient:
        """A client of team red."""
        return self.clients["red"]

    @property
    def database(self) -> Path:
        """The ledger's file."""
        return self.folder / "ledger.db"

    def sdk(self, team: str = "blue", *, version: str = VERSION) -> AsyncAzureOpenAI:
        """Return the openai SDK as an unmodified program would set it up for Azure."""
        client = AsyncAzureOpenAI(
            azure_endpoint=self.url, api_key=self.keys[team], api_version=version
        )
        self.sdk_clients.append(client)
        return client

    def sdk_v1(self, team: str = "blue") -> AsyncOpenAI:
        """Return the openai SDK as an unmodified program would set it up for `/openai/v1`."""
        client = AsyncOpenAI(base_url=f"{self.url}/openai/v1/", api_key=self.keys[team])
        self.sdk_clients.append(client)
        return client

    async def dated(
        self, method: str, path: str, body: Any = None, *, team: str = "blue"
    ) -> httpx.Response:
        """Send a request to the dated surface."""
        target = f"/openai{path}{'&' if '?' in path else '?'}api-version={VERSION}"
        return await self.clients[team].request(method, target, json=body)

    async def v1(
        self, method: str, path: str, body: Any = None, *, team: str = "blue"
    ) -> httpx.Response:
        """Send a request to `/openai/v1`."""
        return await self.clients[team].request(method, f"/openai/v1{path}", json=body)

    async def project(
        self, method: str, path: str, body: Any = None, *, team: str = "blue"
    ) -> httpx.Response:
        """Send a request to the Foundry project."""
        target = f"/api/projects/books{path}{'&' if '?' in path else '?'}api-version=v1"
        return await self.clients[team].request(method, target, json=body)

    async def made(
        self, path: str, body: Any, *, team: str = "blue", surface: str = "dated"
    ) -> dict[str, Any]:
        """Create something and return it."""
        send = {"v1": self.v1, "dated": self.dated, "project": self.project}[surface]
        answer = await send("POST", path, body, team=team)
        assert answer.status_code < 300, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def assistant(self, *, team: str = "blue", **more: Any) -> str:
        """Create an assistant that may use code interpreter and return its id."""
        body = {"model": "gpt-4o", "tools": [INTERPRETER], **more}
        return str((await self.made("/assistants", body, team=team))["id"])

    async def thread(self, text: str = "hello", *, team: str = "blue") -> str:
        """Create a thread with one message and return its id."""
        body = {"messages": [{"role": "user", "content": text}]}
        return str((await self.made("/threads", body, team=team))["id"])

    async def say(self, thread: str, text: str, *, team: str = "blue") -> None:
        """Add a message to a thread."""
        await self.made(f"/threads/{thread}/messages", {"role": "user", "content": text}, team=team)

    async def start(self, thread: str, assistant: str, *, team: str = "blue", **more: Any) -> str:
        """Start a run and return its path below the surface's root."""
        body = {"assistant_id": assistant, **more}
        run = await self.made(f"/threads/{thread}/runs", body, team=team)
        return f"/threads/{thread}/runs/{run['id']}"

    async def call(self, thread: str, assistant: str, *, team: str = "blue") -> None:
        """Have the interpreter called once in the thread, by a streamed run, and read it all."""
        await self.say(thread, "[[sim calls=1]]", team=team)
        body = {"assistant_id": assistant, "stream": True}
        answer = await self.dated("POST", f"/threads/{thread}/runs", body, team=team)
        assert answer.status_code == 200, answer.text
        assert "thread.run.completed" in answer.text

    async def upload(
        self,
        content: bytes = b"a,b\n1,2\n",
        name: str = "table.csv",
        *,
        team: str = "blue",
        media_type: str = "text/csv",
        purpose: str = "assistants",
    ) -> httpx.Response:
        """Upload a file."""
        return await self.clients[team].post(
            f"/openai/files?api-version={VERSION}",
            data={"purpose": purpose},
            files={"file": (name, content, media_type)},
        )

    async def advance(self, seconds: float) -> None:
        """Move both clocks."""
        self.clock.at += round(seconds * SECOND)
        await self.advance_azure(seconds)

    async def advance_azure(self, seconds: float) -> None:
        """Move the simulator's clock alone: the settlement then looks at nothing new."""
        answer = await self.azure.post("/simulator/clock", json={"advance_s": seconds})
        assert answer.status_code == 200, answer.text

    async def until(self, seconds: float) -> None:
        """Move both clocks to `seconds` after the start."""
        now = (await self.azure.get("/simulator/clock")).json()["now_s"]
        left = START_S + seconds - now
        assert left >= 0, f"{-left} s too late"
        await self.advance_azure(left)
        self.clock.at = round((START_S + seconds) * SECOND)

    async def settled(self, *, step_s: float = 2) -> None:
        """Return once nothing is unsettled; both clocks move on by `step_s` for every look."""
        async with asyncio.timeout(DEADLINE_S):
            while (await self.gateway.house.store.unsettled())[0]:
                await self.advance(step_s)
                self.gateway.settlement.wake()
                await asyncio.sleep(0.01)

    async def metrics(self) -> str:
        """Return what Prometheus would scrape once no request is on the street any more."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                text = (await self.azure.get(f"{self.admin_url}/metrics")).text
                if "aoaigw_requests_in_flight 0.0" in text:
                    return text
                await asyncio.sleep(0.01)

    async def invoice(self) -> dict[str, Any]:
        """Return what Azure charged."""
        document: dict[str, Any] = (await self.azure.get("/simulator/invoice")).json()
        return document

    async def journal(self, after: int = 0) -> list[dict[str, Any]]:
        """Return what Azure received after entry `after`."""
        rows: list[dict[str, Any]] = (
            await self.azure.get(f"/simulator/journal?after={after}")
        ).json()
        return rows

    async def mark(self) -> int:
        """Return the number of the journal's last entry."""
        rows = await self.journal()
        return int(rows[-1]["n"]) if rows else 0

    async def ledger(self) -> list[LedgerRow]:
        """Return every posting, in order."""
        return [row async for row in self.gateway.house.store.ledger()]

    async def has_charged_tokens(self) -> bool:
        """Return whether the invoice has any tokens."""
        return bool((await self.invoice())["tokens"])

    async def is_settled(self) -> bool:
        """Return whether nothing is unsettled, without moving any clock."""
        return (await self.gateway.house.store.unsettled())[0] == 0

    async def reserved(self) -> dict[str, int]:
        """Return everything that is held on any account, by account and unit."""
        store, at = self.gateway.house.store, self.clock.at
        found: Counter[str] = Counter()
        for account in (*(team_account(team) for team in TEAMS), ORGANISATION):
            for (unit, _), (_, reserved) in (await store.balances(account, at)).items():
                found[f"{account} {unit}"] += reserved
        return {name: amount for name, amount in found.items() if amount}

    async def sessions_posted(self, team: str = "blue") -> tuple[int, int]:
        """Return how many sessions of this day are (posted, reserved)."""
        store = self.gateway.house.store
        return (await store.balances(team_account(team), self.clock.at))["sessions", "day"]

    async def agree(self) -> dict[str, Any]:
        """Settle, and prove that ledger and invoice say the same, exactly; return the invoice."""
        await self.settled()
        invoice, lines = await self.invoice(), await self.ledger()
        assert estimates(lines) == {}
        assert sessions_by_scope(lines) == invoiced_sessions(invoice)
        assert tokens_by_model(lines) == invoiced_tokens(invoice)
        assert total(lines) == invoice["total_nano_usd"]
        assert await self.reserved() == {}
        return invoice


async def eventually(
    question: Callable[[], Awaitable[object]], *, within_s: float = DEADLINE_S
) -> None:
    """Return once the answer to `question` is true.

    Raises:
        TimeoutError: it was not within `within_s`.
    """
    async with asyncio.timeout(within_s):
        while True:
            if await question():
                return
            await asyncio.sleep(0.01)


def write_policies(folder: Path, changes: Mapping[str, str]) -> None:
    """Copy the shipped policies, without their session caps, and put `changes` behind a file.

    A change to a file that begins with ``=`` replaces its text instead.
    """
    folder.mkdir()
    for source in shipped_policies().glob("*.toml"):
        if source.name.endswith(".cases.toml"):
            continue
        text = source.read_text(encoding="utf-8")
        if source.name == "code_interpreter.toml":
            text = "cap_status = 429\n"
        change = changes.get(source.name, "")
        text = change[1:] if change.startswith("=") else f"{change}\n{text}"
        (folder / source.name).write_text(text, encoding="utf-8")


def write_price_book(folder: Path, sessions: str) -> None:
    """Write the shipped prices with other session terms."""
    text = files("gateway.pricebook").joinpath("azure.toml").read_text(encoding="utf-8")
    prices = text[: text.index("# Code interpreter.")]
    (folder / PRICES).write_text(prices + sessions, encoding="utf-8")


def write_settings(
    folder: Path,
    endpoint: str,
    *,
    settle_timeout_s: float = 10,
    carries_dated: bool = False,
    environ: Mapping[str, str] | None = None,
    sessions: str | None = None,
    region: str | None = None,
) -> Settings:
    """Write a `gateway.toml` and return it as read."""
    path = folder / "gateway.toml"
    if sessions is not None:
        write_price_book(folder, sessions)
    text = _TOML.format(
        price_book="" if sessions is None else f'price_book = "{PRICES}"',
        region="" if region is None else f'region = "{region}"',
        endpoint=endpoint,
        settle_timeout_s=settle_timeout_s,
        carries_dated=str(carries_dated).lower(),
    )
    path.write_text(text, encoding="utf-8")
    return load_settings(path, {"AZURE_KEY": AZURE_KEY, **(environ or {})})


@asynccontextmanager
async def living(
    folder: Path,
    *,
    policies: Mapping[str, str] | None = None,
    config: SimulatorConfig | None = None,
    endpoint: str | None = None,
    settle_timeout_s: float = 10,
    carries_dated: bool = False,
    environ: Mapping[str, str] | None = None,
    sessions: str | None = None,
    region: str | None = None,
) -> AsyncIterator[Street]:
    """Yield a street whose clocks move only when they are told to.

    `policies` are texts put before the shipped files (caps are left out of the copy); `endpoint`
    puts another server in Azure's place; `carries_dated` sends dated assistants to the project;
    `environ` has settings that the file has not; `sessions` are the session terms of a price book
    that has all other prices of the shipped one; `region` is where the first upstream is.
    """
    config = config or SimulatorConfig(wall_clock=False, run_s=10, start_s=START_S)
    clock = HandClock()
    if not (folder / "policies").exists():
        write_policies(folder / "policies", policies or {})
    async with AsyncExitStack() as stack:
        simulator = stack.enter_context(LiveSimulator(config))
        settings = write_settings(
            folder,
            endpoint or simulator.url,
            settle_timeout_s=settle_timeout_s,
            carries_dated=carries_dated,
            environ=environ,
            sessions=sessions,
            region=region,
        )
        rules = load_policies(settings.policies_dir, TEAMS)
        gateway = await stack.enter_async_context(running(settings, rules, clock=clock))
        keys = await issue_keys(gateway, settings)
        base = f"http://127.0.0.1:{gateway.data_port}"
        clients = {
            team: await stack.enter_async_context(
                httpx.AsyncClient(base_url=base, headers={"api-key": key}, timeout=DEADLINE_S)
            )
            for team, key in keys.items()
        }
        azure = await stack.enter_async_context(
            httpx.AsyncClient(base_url=simulator.url, timeout=DEADLINE_S)
        )
        state = simulator.simulator
        street = Street(folder, gateway, clock, azure, keys, clients, simulator.url, state)
        try:
            yield street
        finally:
            for client in street.sdk_clients:
                await client.close()


async def issue_keys(gateway: Gateway, settings: Settings) -> dict[str, str]:
    """Issue one key for each team and put them in force."""
    house, pepper = gateway.house, load_pepper(settings)
    keys = {}
    for team in TEAMS:
        issued = await issue_key(house.store, team, clock=house.clock, pepper=pepper, teams=TEAMS)
        keys[team] = issued.key
    house.ring = KeyRing(await house.store.keys(), pepper)
    return keys


def session_cap(rule: str, subject: str, sessions: int, *, period: str | None = None) -> str:
    """Return one cap as the policy file writes it."""
    lines = [f'rule = "{rule}"', f'subject = "{subject}"', f"sessions = {sessions}"]
    if period is not None:
        lines.append(f'period = "{period}"')
    return "[[cap]]\n" + "\n".join(lines) + "\n"


def session_caps(*caps: str) -> dict[str, str]:
    """Return the policy change that sets exactly these caps."""
    return {"code_interpreter.toml": "=cap_status = 429\n" + "".join(caps)}
