"""Settings: `gateway.toml` and the environment become one frozen `Settings`, or all faults.

The file says what is where (addresses, upstreams, deployments, teams); what is allowed stands in
the policy files. Secrets are never written in the file: it names where they lie, ``env:NAME`` or
``file:PATH``. A variable ``AOAIGW_…`` wins over the file. Relative paths in the file are relative
to the file's folder, in the environment to the working directory.

Without a file, ``AZURE_OPENAI_ENDPOINT`` and ``AZURE_OPENAI_API_KEY`` are enough: one upstream
named ``azure``, one team named ``default``.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gateway.environment import AZURE_ENDPOINT, AZURE_KEY, overlay
from gateway.faults import SettingsFaults, listed, read_toml, sentences
from gateway.settings_file import (
    DEPLOYMENT_TYPES,
    GatewayFile,
    Secret,
    UpstreamKind,
    named_project,
    project_of,
    sqlite_path,
)

__all__ = [
    "DEPLOYMENT_TYPES",
    "DeploymentSettings",
    "Listen",
    "Secret",
    "Settings",
    "SettingsFaults",
    "TeamSettings",
    "UpstreamKind",
    "UpstreamSettings",
    "load_pepper",
    "load_settings",
    "settings_schema",
    "sqlite_path",
]

_PEPPER_BYTES = 32
_SERVING_ONLY = ("upstream", "deployment", "scrape_token", "price_book")


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the two planes listen. `tls_cert` and `tls_key` are both set or both None."""

    data_host: str = "127.0.0.1"
    data_port: int = 8080
    admin_host: str = "127.0.0.1"
    admin_port: int = 8081
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()
    connections_max: int | None = None


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """One Azure resource. `endpoint` is ``https://host[:port]``, with nothing behind it; `project`
    is the Foundry project it stands for, if it does; `carries_dated` says that it answers dated
    calls of assistants. Of `api_key` and `token_file` one is set. `region` says whose session terms
    hold for its threads and containers."""

    name: str
    kind: UpstreamKind
    endpoint: str
    api_key: Secret | None
    token_file: Path | None = None
    project: str | None = None
    carries_dated: bool = False
    region: str | None = None


@dataclass(frozen=True, slots=True)
class DeploymentSettings:
    """One deployment as callers name it, and what must be known of it to price it."""

    name: str
    model: str
    type: str
    region: str | None
    upstream: str


@dataclass(frozen=True, slots=True)
class TeamSettings:
    """One team: its `id` is on every ledger line, its `name` on reports."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that is fixed when the gateway starts; all paths are absolute.

    `store_url` is ``sqlite:///`` and an absolute path, or ``postgresql://…``. `policies_dir` of
    None means the policies the gateway is shipped with, `price_book` of None its prices. No
    deployments means that a deployment named like a priced model counts as that model.
    """

    listen: Listen
    store_url: str
    spool_dir: Path
    spool_quota_bytes: int
    policies_dir: Path | None
    upstreams: tuple[UpstreamSettings, ...]
    deployments: tuple[DeploymentSettings, ...]
    teams: tuple[TeamSettings, ...]
    key_pepper: Secret | None
    scrape_token: Secret | None
    settle_timeout_s: float = 10
    drain_s: float = 30
    request_bytes_max: int = 16 * 1024 * 1024
    price_book: Path | None = None


def load_settings(
    path: Path | None, environ: Mapping[str, str], *, is_serving: bool = True
) -> Settings:
    """Return the settings of a file, or of the environment alone if `path` is None.

    With `is_serving` of False what only a server needs (upstreams, deployments, prices, the scrape
    token) is neither read nor missed, so that a report can be made where secrets are not at hand.

    Raises:
        SettingsFaults: with every fault of file and environment, not only the first.
    """
    folder = Path.cwd() if path is None else path.absolute().parent
    written = {} if path is None else read_toml(path)
    merged = overlay(written, environ)
    if not is_serving:
        for table in _SERVING_ONLY:
            merged.document.pop(table, None)
    try:
        file = GatewayFile.model_validate(
            merged.document, context={"folder": folder, "environ": environ}
        )
    except ValidationError as error:
        found = sentences(error, GatewayFile, merged.place)
        file = None
    else:
        found = []
    found += [*merged.faults, *_contradictions(merged.document)]
    if is_serving and merged.document.get("upstream") in (None, []):
        found.append(_no_upstream(environ))
    if found or file is None:
        raise SettingsFaults(found)
    return _settings(file, folder)


def settings_schema() -> dict[str, object]:
    """Return the JSON schema of `gateway.toml`."""
    schema = GatewayFile.model_json_schema()
    schema["title"] = "gateway.toml"
    return schema


def load_pepper(settings: Settings) -> bytes:
    """Return the secret under which key digests are made.

    With SQLite and none configured it lies beside the database, and is made (mode 0600) when
    missing.

    Raises:
        SettingsFaults: it cannot be read or written, or other users may read it.
    """
    if settings.key_pepper is not None:
        return settings.key_pepper.reveal().encode()
    database = sqlite_path(settings.store_url)
    if database is None:
        raise SettingsFaults([_PEPPER_MISSING])
    path = database.with_name(database.name + ".pepper")
    try:
        if not path.exists():
            _make_pepper(path)
        if path.stat().st_mode & 0o007:
            raise SettingsFaults([f"key pepper `{path}` can be read by all users; `chmod 600` it"])
        return _checked_pepper(path)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise SettingsFaults([f"key pepper `{path}`: {reason}"]) from None


_PEPPER_MISSING = (
    "key_pepper: is missing, and a PostgreSQL store has no file to keep it beside; "
    'set `AOAIGW_KEY_PEPPER` or `key_pepper = "file:PATH"`'
)


def _make_pepper(path: Path) -> None:
    """Write a new pepper whole or not at all; of two processes that race, one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_PEPPER_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()


def _checked_pepper(path: Path) -> bytes:
    pepper = path.read_bytes().strip()
    if len(pepper) < 2 * _PEPPER_BYTES:
        raise SettingsFaults([f"key pepper `{path}` is damaged; restore it from a backup"])
    return pepper


def _settings(file: GatewayFile, folder: Path) -> Settings:
    database = sqlite_path(file.store.url)
    home = folder
    store_url = file.store.url
    if database is not None:
        database = folder / database
        home, store_url = database.parent, f"sqlite:///{database}"
    (data_host, data_port), (admin_host, admin_port) = file.listen.data, file.listen.admin
    return Settings(
        listen=Listen(
            data_host=data_host,
            data_port=data_port,
            admin_host=admin_host,
            admin_port=admin_port,
            tls_cert=file.listen.tls_cert,
            tls_key=file.listen.tls_key,
            trusted_proxies=tuple(file.listen.trusted_proxies),
            connections_max=file.listen.connections_max,
        ),
        store_url=store_url,
        spool_dir=file.spool.dir or home / "aoai-gateway-spool",
        spool_quota_bytes=file.spool.quota_bytes,
        policies_dir=file.policies,
        upstreams=tuple(
            UpstreamSettings(
                up.name,
                up.kind,
                project_of(up.endpoint)[0],
                up.api_key,
                token_file=up.token_file,
                project=project_of(up.endpoint)[1],
                carries_dated=up.carries_dated,
                region=up.region,
            )
            for up in file.upstream
        ),
        deployments=tuple(
            DeploymentSettings(
                name=row.name,
                model=row.model,
                type=row.type,
                region=row.region,
                upstream=row.upstream or file.upstream[0].name,
            )
            for row in file.deployment
        ),
        teams=tuple(TeamSettings(team.id, team.name or team.id) for team in file.team)
        or (TeamSettings("default", "default"),),
        key_pepper=file.key_pepper,
        scrape_token=file.scrape_token,
        settle_timeout_s=file.settle_timeout_s,
        drain_s=file.drain_s,
        request_bytes_max=file.request_bytes_max,
        price_book=file.price_book,
    )


def _no_upstream(environ: Mapping[str, str]) -> str:
    missing = [name for name in (AZURE_ENDPOINT, AZURE_KEY) if not environ.get(name)]
    return (
        f"upstream: there is none; set {listed(missing)}, "
        "or write an `[[upstream]]` into `gateway.toml`"
    )


def _contradictions(document: Mapping[str, object]) -> Iterator[str]:
    """Yield what no single value is to blame for; looks at whatever is well formed."""
    upstreams = _column(document, "upstream", "name")
    yield from _doubles("upstream", "name", upstreams)
    endpoints = _column(document, "upstream", "endpoint")
    projects = [name for name in map(named_project, endpoints) if name is not None]
    yield from _doubles("upstream", "project", projects)
    carriers = [row for row in _rows(document, "upstream") if row.get("carries_dated") is True]
    if len(carriers) > 1:
        yield "upstream: more than one has `carries_dated`; dated calls can go to one project only"
    yield from _doubles("deployment", "name", _column(document, "deployment", "name"))
    yield from _doubles("team", "id", _column(document, "team", "id"))
    for index, row in enumerate(_rows(document, "deployment")):
        named = row.get("upstream")
        if isinstance(named, str) and named not in upstreams:
            yield (
                f"deployment[{index}].upstream: `{named[:64]}` is not one of {listed(upstreams)}"
            )
        if named is None and len(upstreams) > 1:
            yield f"deployment[{index}].upstream: is missing; it is one of {listed(upstreams)}"
    listen = document.get("listen")
    if isinstance(listen, Mapping):
        if ("tls_cert" in listen) != ("tls_key" in listen):
            yield "listen: `tls_cert` and `tls_key` must both be set, or neither"
        if listen.get("data") == listen.get("admin") and not str(listen.get("data", ":0")).endswith(
            ":0"
        ):
            yield f"listen: `data` and `admin` are both `{listen['data']}`; they must differ"
    store = document.get("store")
    url = store.get("url") if isinstance(store, Mapping) else None
    if str(url).startswith("postgresql://") and "key_pepper" not in document:
        yield _PEPPER_MISSING


def _rows(document: Mapping[str, object], table: str) -> list[Mapping[str, object]]:
    rows = document.get(table)
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _column(document: Mapping[str, object], table: str, key: str) -> list[str]:
    return [str(row[key]) for row in _rows(document, table) if key in row]


def _doubles(table: str, key: str, values: Sequence[str]) -> Iterator[str]:
    for value in sorted({value for value in values if values.count(value) > 1}):
        yield f"{table}: {key} `{value[:64]}` is used more than once; it must be unique"
