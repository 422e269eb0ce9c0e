"""The shape of `gateway.toml`: every table and key, what it means and what is allowed.

The descriptions are what `aoai-gateway config schema` prints.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

UpstreamKind = Literal["azure-openai", "foundry"]
DeploymentType = Literal[
    "standard",
    "global-standard",
    "data-zone-standard",
    "provisioned",
    "global-provisioned",
    "data-zone-provisioned",
    "global-batch",
    "data-zone-batch",
]
DEPLOYMENT_TYPES: Final[tuple[str, ...]] = get_args(DeploymentType)
SQLITE: Final = "sqlite:///"
MIB: Final = 1024 * 1024
PEPPER_CHARS_MIN: Final = 32

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PROJECT = re.compile(r"/api/projects/([A-Za-z0-9][A-Za-z0-9._-]{0,63})/?")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]*):([0-9]{1,5})")
_SECRET_BYTES_MAX = 64 * 1024


class Secret:
    """A text that hides itself wherever it could be shown; `reveal` is the one way out."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('…')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


def read_secret(reference: str, *, environ: Mapping[str, str], folder: Path) -> Secret:
    """Return what ``env:NAME`` or ``file:PATH`` refers to, without a line end.

    Raises:
        ValueError: it refers to nothing, or to nothing that can stand in a header.
    """
    scheme, _, rest = reference.partition(":")
    match scheme:
        case "env" if rest:
            text = environ.get(rest, "")
            source = f"environment variable `{rest}`"
        case "file" if rest:
            text = _first_text(folder / rest)
            source = f"file `{rest}`"
        case _:
            raise ValueError("a secret is not written here; say `env:NAME` or `file:PATH`")
    return checked_secret(text, source)


def checked_secret(text: str, source: str) -> Secret:
    """Return `text` without its line end as a Secret.

    Raises:
        ValueError: it is empty or holds characters that cannot stand in a header.
    """
    text = text.rstrip("\r\n")
    if not text:
        raise ValueError(f"{source} is empty or not set")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{source} holds spaces or characters that cannot stand in a header")
    return Secret(text)


def sqlite_path(store_url: str) -> Path | None:
    """Return the database file of a ``sqlite:///`` address, or None for another store."""
    return Path(store_url.removeprefix(SQLITE)) if store_url.startswith(SQLITE) else None


def _first_text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_SECRET_BYTES_MAX)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise ValueError(f"file `{path}` cannot be read: {reason}") from None
    except UnicodeDecodeError:
        raise ValueError(f"file `{path}` is not text") from None


def _secret(value: object, info: ValidationInfo) -> Secret:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str) or info.context is None:
        raise ValueError("a secret is named by a string, `env:NAME` or `file:PATH`")
    return read_secret(value, environ=info.context["environ"], folder=info.context["folder"])


def _pepper(value: object, info: ValidationInfo) -> Secret:
    secret = _secret(value, info)
    if len(secret.reveal()) < PEPPER_CHARS_MIN:
        raise ValueError(
            f"has {len(secret.reveal())} characters, at least {PEPPER_CHARS_MIN} are needed; "
            "make one with `openssl rand -hex 32`"
        )
    return secret


def _path(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be a path")
    folder = Path() if info.context is None else info.context["folder"]
    return Path(folder / value)


def _file(value: object, info: ValidationInfo) -> Path:
    path = _path(value, info)
    if not path.is_file():
        raise ValueError(f"there is no file `{path}`")
    return path


def _directory(value: object, info: ValidationInfo) -> Path:
    path = _path(value, info)
    if not path.is_dir():
        raise ValueError(f"there is no folder `{path}`")
    return path


def _name(value: object) -> object:
    if isinstance(value, str) and not _NAME.fullmatch(value):
        raise ValueError(
            f"`{value[:64]}` must be 1 to 64 letters, digits, `.`, `_`, `-`, "
            "and begin with a letter or digit"
        )
    return value


def _address(value: object) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[2]) > 65_535:
        shown = f"`{str(value)[:64]}`"
        raise ValueError(f"{shown} is not an address such as `127.0.0.1:8080` or `:8080`")
    return found[1].strip("[]") or "0.0.0.0", int(found[2])  # noqa: S104  — asked for by `:8080`


def _proxy(value: object) -> object:
    if isinstance(value, str):
        try:
            network = ipaddress.ip_network(value)
        except ValueError:
            raise ValueError(
                f"`{value[:64]}` is not an address or network such as `10.0.0.0/8`"
            ) from None
        if network.prefixlen == 0:
            raise ValueError(f"`{value}` is everybody; name the proxies alone")
    return value


def _store_url(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.startswith("postgresql://") and urlsplit(value).hostname:
        return value
    path = value.removeprefix(SQLITE)
    if not value.startswith(SQLITE) or not path or path == ":memory:" or set(path) & set("?#\0"):
        raise ValueError("must be `sqlite:///PATH` or `postgresql://…`")
    return value


def project_of(endpoint: str) -> tuple[str, str | None]:
    """Return the origin of an endpoint and the Foundry project it names, if it names one."""
    found = _PROJECT.fullmatch(urlsplit(endpoint).path)
    if found is None:
        return endpoint, None
    return endpoint[: endpoint.index("/api/projects/")], found[1]


def named_project(endpoint: str) -> str | None:
    """Return the Foundry project an endpoint names; None also for what is no endpoint at all."""
    try:
        return project_of(endpoint)[1]
    except ValueError:
        return None


def _endpoint(value: object) -> object:
    """Return an origin, perhaps with a project behind it; the slash that the portal's copy button
    adds is taken away."""
    if not isinstance(value, str):
        return value
    try:
        parts = urlsplit(value)
        origin = f"{parts.scheme}://{parts.netloc}"
        well_formed = bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        raise ValueError("must be an address such as `https://NAME.openai.azure.com`") from None
    if not well_formed or parts.scheme not in ("https", "http"):
        raise ValueError("must be an address such as `https://NAME.openai.azure.com`")
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError(
            f"`{origin[:128]}` would send the key in clear text; "
            "`https` is required unless the host is this machine"
        )
    if _PROJECT.fullmatch(parts.path) and not parts.query and not parts.fragment:
        return origin + parts.path.rstrip("/")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(
            f"must not have a path or a query; say `{origin[:128]}`, "
            f"or `{origin[:128]}/api/projects/NAME` for a Foundry project"
        )
    return origin


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


Name = Annotated[str, BeforeValidator(_name)]
Address = Annotated[
    tuple[str, int],
    PlainValidator(_address),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:8080", ":8080"]}),
]
SecretReference = Annotated[
    Secret,
    PlainValidator(_secret),
    WithJsonSchema({"type": "string", "pattern": "^(env|file):.+"}),
]
PepperReference = Annotated[
    Secret,
    PlainValidator(_pepper),
    WithJsonSchema({"type": "string", "pattern": "^(env|file):.+"}),
]
AnyPath = Annotated[Path, PlainValidator(_path), WithJsonSchema({"type": "string"})]
FilePath = Annotated[Path, PlainValidator(_file), WithJsonSchema({"type": "string"})]
FolderPath = Annotated[Path, PlainValidator(_directory), WithJsonSchema({"type": "string"})]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ListenTable(_Table):
    """Where the gateway listens."""

    data: Address = Field(
        default_factory=lambda: ("127.0.0.1", 8080),
        json_schema_extra={"default": "127.0.0.1:8080"},
        description="data plane: what teams call; `:8080` listens on every interface",
    )
    admin: Address = Field(
        default_factory=lambda: ("127.0.0.1", 8081),
        json_schema_extra={"default": "127.0.0.1:8081"},
        description="admin plane: metrics, health, console",
    )
    tls_cert: FilePath | None = Field(
        default=None, description="PEM file with the certificate chain; needs `tls_key`"
    )
    tls_key: FilePath | None = Field(default=None, description="PEM file with the private key")
    trusted_proxies: list[Annotated[str, BeforeValidator(_proxy)]] = Field(
        default=[], description="addresses or networks whose `X-Forwarded-For` is believed"
    )
    connections_max: int | None = Field(
        default=None,
        ge=1,
        description="how many connections callers may hold at once; a further one is answered 503",
    )


class StoreTable(_Table):
    """Where the ledger lies."""

    url: Annotated[str, BeforeValidator(_store_url)] = Field(
        default="sqlite:///aoai-gateway.db", description="`sqlite:///PATH` or `postgresql://…`"
    )


class SpoolTable(_Table):
    """Where uploads wait while they are judged."""

    dir: AnyPath | None = Field(
        default=None, description="by default `aoai-gateway-spool` beside the ledger"
    )
    quota_bytes: int = Field(
        default=4096 * MIB, ge=MIB, description="the most that all uploads in progress may take"
    )


class UpstreamTable(_Table):
    """One Azure resource."""

    name: Name
    kind: UpstreamKind
    endpoint: Annotated[str, BeforeValidator(_endpoint)] = Field(
        description='its origin, `https://NAME.openai.azure.com`; with `kind = "foundry"` the '
        "project's, `https://NAME.services.ai.azure.com/api/projects/PROJECT`"
    )
    api_key: SecretReference | None = Field(
        default=None, description="`env:NAME` or `file:PATH`, never the key itself"
    )
    token_file: FilePath | None = Field(
        default=None,
        description="instead of `api_key`: a file with an Entra access token, read again whenever "
        "it changes, as a sidecar or a scheduled `az account get-access-token` keeps it",
    )
    carries_dated: bool = Field(
        default=False,
        description='with `kind = "foundry"`: dated calls of assistants, threads, files and '
        "vector stores are carried to this project, which has the same objects; for clients that "
        "outlive the retired Assistants API",
    )
    region: Name | None = Field(default=None, description="whose session terms it has")

    @model_validator(mode="after")
    def _agrees(self) -> UpstreamTable:
        if (self.api_key is None) == (self.token_file is None):
            raise ValueError("exactly one of `api_key` and `token_file` is needed")
        has_project = project_of(self.endpoint)[1] is not None
        if has_project != (self.kind == "foundry"):
            raise ValueError(
                f"endpoint `{self.endpoint[:128]}` and kind `{self.kind}` do not go together; a "
                "project's endpoint ends in `/api/projects/PROJECT`"
            )
        if self.carries_dated and not has_project:
            raise ValueError("`carries_dated` is for a Foundry project; leave it out")
        return self


class DeploymentTable(_Table):
    """One deployment and what is needed to price it."""

    name: Name = Field(description="as callers name it")
    model: Name = Field(description="the model behind it, as the price book names it")
    type: DeploymentType = "global-standard"
    region: Name | None = Field(default=None, description="Azure's name, such as `swedencentral`")
    upstream: Name | None = Field(default=None, description="may be left out if there is only one")


class TeamTable(_Table):
    """One team."""

    id: Name = Field(description="stands on every ledger line and must never change")
    name: str | None = Field(default=None, description="for reports; by default the id")


class GatewayFile(_Table):
    """The whole file."""

    policies: FolderPath | None = Field(
        default=None, description="folder of the policy files; by default the shipped ones"
    )
    price_book: FilePath | None = Field(default=None, description="instead of the shipped prices")
    key_pepper: PepperReference | None = Field(
        default=None, description="at least 32 characters; with SQLite made by itself if left out"
    )
    scrape_token: SecretReference | None = Field(
        default=None, description="if set, `/metrics` asks for it as a bearer token"
    )
    settle_timeout_s: float = Field(default=10, gt=0, le=300)
    drain_s: float = Field(default=30, ge=0, le=3600)
    request_bytes_max: int = Field(default=16 * MIB, ge=1024, le=1024 * MIB)
    listen: ListenTable = Field(default_factory=ListenTable)
    store: StoreTable = Field(default_factory=StoreTable)
    spool: SpoolTable = Field(default_factory=SpoolTable)
    upstream: list[UpstreamTable] = []
    deployment: list[DeploymentTable] = []
    team: list[TeamTable] = []
