"""Assembly: from settings to a running gateway, and its orderly end.

Two doors: the data plane for callers, the admin plane for operators; and, beside the ledger, a
control socket for the command line. They end in the order that loses nothing: stop accepting, let
replies and their bookings finish, write what waits, close the ledger.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.admin import admin_app
from gateway.booking import Bookkeeper
from gateway.bounds import DoorLimits
from gateway.control import WallClock, control_app, control_socket_path
from gateway.core.billing import Deployment, Rates
from gateway.core.callers import KeyRing
from gateway.core.rating import PriceBook, PriceBookFaults
from gateway.core.versions import V1_VERSIONS
from gateway.desk import Desk
from gateway.faults import SettingsFaults
from gateway.house import House, Limits, Rules
from gateway.listener import Door
from gateway.policies import Policies, load_policies
from gateway.ports import Clock, Store
from gateway.pricebook import load_price_book
from gateway.relay import Street
from gateway.settings import Settings, UpstreamSettings, load_pepper
from gateway.settlement import Settlement
from gateway.spool import Spool
from gateway.stores import open_store
from gateway.tasks import Tasks
from gateway.telemetry import Telemetry
from gateway.upstream import AzureTransport, AzureUpstream, Credential, TokenFile, UpstreamTarget

_log = logging.getLogger("gateway")


class Gateway:
    """A running gateway. `data_port` and `admin_port` are the real ones."""

    def __init__(self, house: House, settlement: Settlement, data: Door, admin: Door) -> None:
        self.house = house
        self.settlement = settlement
        self._data = data
        self._admin = admin

    @property
    def data_port(self) -> int:
        """Where callers call."""
        return self._data.port

    @property
    def admin_port(self) -> int:
        """Where operators look."""
        return self._admin.port


def make_rules(settings: Settings, policies: Policies) -> Rules:
    """Return what decides, from settings and policies.

    Raises:
        SettingsFaults: the price book is faulty, or a deployment has a model or type that no price
            is known for.
    """
    book = _price_book(settings)
    faults = []
    for index, row in enumerate(settings.deployments):
        where = f"deployment[{index}]"
        if row.type not in book.factors:
            known = ", ".join(f"`{name}`" for name in book.factors)
            faults.append(f"{where}.type: `{row.type}` has no price; known: {known}")
        if row.model not in book.prices:
            known = ", ".join(f"`{name}`" for name in sorted(book.prices))
            faults.append(f"{where}.model: `{row.model}` has no price; known: {known}")
    if faults:
        raise SettingsFaults(faults)
    return Rules(
        policies=policies,
        rates=Rates(book, {row.name: row.type for row in settings.deployments}),
        deployments={
            row.name: Deployment(row.name, row.model, row.type, row.upstream)
            for row in settings.deployments
        },
        stateful=settings.upstreams[0].name,
        projects={row.project: row.name for row in settings.upstreams if row.project is not None},
        dated_project=next((row.project for row in settings.upstreams if row.carries_dated), None),
    )


def _price_book(settings: Settings) -> PriceBook:
    """Return the price book, its session terms placed where the upstreams are."""
    try:
        book = load_price_book(settings.price_book)
    except PriceBookFaults as found:
        raise SettingsFaults([f"price book: {fault}" for fault in found.faults]) from None
    regions = {row.name: row.region for row in settings.upstreams if row.region is not None}
    return replace(book, terms=book.terms.placed(regions))


@asynccontextmanager
async def running(
    settings: Settings, policies: Policies, *, clock: Clock | None = None
) -> AsyncIterator[Gateway]:
    """Run a gateway for as long as the context lasts.

    Raises:
        StoreBusy: another process serves this ledger.
        StoreUnavailable: the ledger cannot be opened.
        OSError: a port is taken, or a file cannot be read.
        SettingsFaults: settings and prices do not go together.
    """
    clock = clock or WallClock()
    rules = make_rules(settings, policies)
    pepper = load_pepper(settings)
    async with AsyncExitStack() as stack:
        store = await open_store(settings.store_url, clock=clock)
        stack.push_async_callback(store.close)
        upstream = _upstream(settings)
        stack.push_async_callback(upstream.aclose)
        spool = Spool(settings.spool_dir, settings.spool_quota_bytes)
        spool.sweep()
        house, settlement = await _assemble(settings, rules, store, upstream, spool, clock, pepper)
        stack.push_async_callback(_finish, house, settings.drain_s)
        for work in (settlement.run(), house.bookkeeper.keep_clearing()):
            stack.push_async_callback(_cancel, house.tasks.start(work))
        gateway = await _open_doors(stack, settings, house, settlement, pepper)
        yield gateway


async def _assemble(
    settings: Settings,
    rules: Rules,
    store: Store,
    upstream: AzureUpstream,
    spool: Spool,
    clock: Clock,
    pepper: bytes,
) -> tuple[House, Settlement]:
    telemetry = Telemetry(
        versions={*rules.policies.versions.known, *V1_VERSIONS},
        deployments=rules.deployments,
        teams=[team.id for team in settings.teams],
        upstreams=[upstream.name for upstream in settings.upstreams],
    )
    settlement = Settlement(
        store,
        upstream,
        clock,
        lambda: house.rules.rates,
        lambda: _thread_version(house.rules.policies),
        lambda origin: house.rules.root_of(origin),
    )
    bookkeeper = Bookkeeper(store, clock, telemetry, lambda: house.rules.rates, settlement.wake)
    settlement.bookkeeper = bookkeeper
    house = House(
        store=store,
        upstream=upstream,
        clock=clock,
        spool=spool,
        telemetry=telemetry,
        bookkeeper=bookkeeper,
        rules=rules,
        ring=await _ring(store, settings, pepper),
        limits=Limits(
            request_bytes_max=settings.request_bytes_max,
            settle_timeout_s=settings.settle_timeout_s,
        ),
        tasks=Tasks(),
    )
    return house, settlement


async def _ring(store: Store, settings: Settings, pepper: bytes) -> KeyRing:
    """Return the keys of the teams that there are; a team that was taken out cannot call."""
    teams = {team.id for team in settings.teams}
    return KeyRing([record for record in await store.keys() if record.team in teams], pepper)


# The newest dated version that serves threads, for the settlement's own questions.
# Source: Azure OpenAI, "API version lifecycle": 2025-04-01-preview is the last dated preview.
_THREADS_NEWEST = "2025-04-01-preview"


def _thread_version(policies: Policies) -> str:
    return policies.versions.pin or _THREADS_NEWEST


async def _open_doors(
    stack: AsyncExitStack,
    settings: Settings,
    house: House,
    settlement: Settlement,
    pepper: bytes,
) -> Gateway:
    listen = settings.listen

    async def keys_changed() -> None:
        house.ring = await _ring(house.store, settings, pepper)

    data = Door(
        _data_plane(house, settlement),
        host=listen.data_host,
        port=listen.data_port,
        limits=DoorLimits(connections_max=listen.connections_max),
        tls_cert=listen.tls_cert,
        tls_key=listen.tls_key,
        drain_s=settings.drain_s,
        trusted_proxies=listen.trusted_proxies,
        on_refusal=house.telemetry.door_refused,
    )
    house.telemetry.connections_open.set_function(lambda: data.connections_open)
    token = settings.scrape_token.reveal() if settings.scrape_token else None
    admin = Door(admin_app(house, token), host=listen.admin_host, port=listen.admin_port, drain_s=1)
    teams = [team.id for team in settings.teams]
    control = control_app(house.store, keys_changed, house.clock, pepper, teams)
    doors = [data, admin]
    path = _database(settings)
    if path is not None:
        socket = control_socket_path(path)
        doors.append(Door(control, host="", port=0, uds=socket, drain_s=1))
    for door in doors:
        await door.start()
        stack.push_async_callback(door.stop)
    return Gateway(house, settlement, data, admin)


def _data_plane(house: House, settlement: Settlement) -> ASGIApp:
    street, desk = Street(house, settlement.wake), Desk(house)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        is_desk = scope["raw_target"].startswith(b"/gateway/")
        await (desk if is_desk else street)(scope, receive, send)

    return app


def _database(settings: Settings) -> Path | None:
    prefix = "sqlite:///"
    url = settings.store_url
    return Path(url.removeprefix(prefix)) if url.startswith(prefix) else None


def _upstream(settings: Settings) -> AzureUpstream:
    targets = {
        row.name: UpstreamTarget(row.name, row.endpoint.rstrip("/"), _credential(row))
        for row in settings.upstreams
    }
    return AzureUpstream(targets, AzureTransport(ssl_context=ssl.create_default_context()))


def _credential(row: UpstreamSettings) -> Credential | TokenFile:
    if row.token_file is not None:
        return TokenFile(row.token_file)
    if row.api_key is None:
        raise ValueError("an upstream has neither a key nor a token")
    return Credential("api-key", row.api_key.reveal())


async def _finish(house: House, drain_s: float) -> None:
    """Let bookings that are still being written finish, and write what waits on the shelf."""
    await house.tasks.join(drain_s)
    await house.bookkeeper.clear_shelf()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def serve(settings: Settings, policies: Policies) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the policies again.

    A policy that cannot be read leaves the running one in force and says so.
    Raises as `running` does.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    async with running(settings, policies) as gateway:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, reload, gateway.house, settings)
        scheme = "https" if settings.listen.tls_cert else "http"
        callers = f"{scheme}://{settings.listen.data_host}:{gateway.data_port}"
        operators = f"http://{settings.listen.admin_host}:{gateway.admin_port}"
        _log.warning("serving callers on %s, operators on %s", callers, operators)
        await stop.wait()


def reload(house: House, settings: Settings) -> bool:
    """Read the policies again; return whether they are in force now."""
    try:
        policies = load_policies(settings.policies_dir, [team.id for team in settings.teams])
        house.rules = make_rules(settings, policies)
    except SettingsFaults as faults:
        for fault in faults.faults:
            _log.error("policy not reloaded, the running one stays in force: %s", fault)
        return False
    _log.warning("policies reloaded")
    return True
