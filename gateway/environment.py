"""The environment as settings: which variables there are, and which of them nobody knows.

Every ``AOAIGW_…`` variable stands for one value of `gateway.toml` and wins over it. A name with
that prefix that means nothing is a fault, because a misspelt limit that is silently ignored is no
limit; only the names that Kubernetes makes for a service called ``aoaigw`` are let pass.

Source: Kubernetes documentation, "Service: environment variables" (``{SVCNAME}_SERVICE_HOST``,
``{SVCNAME}_PORT_8080_TCP_ADDR`` …).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.faults import Location, dotted, hint
from gateway.settings_file import Secret, checked_secret, read_secret, sqlite_path

PREFIX: Final = "AOAIGW_"
AZURE_ENDPOINT: Final = "AZURE_OPENAI_ENDPOINT"
AZURE_KEY: Final = "AZURE_OPENAI_API_KEY"

_SERVICE_LINK = re.compile(
    r"AOAIGW_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://\S+")


@dataclass(frozen=True, slots=True)
class Overlay:
    """A document with the environment laid over it; `named` says what came from which variable."""

    document: dict[str, object]
    named: Mapping[Location, str]
    faults: tuple[str, ...]

    def place(self, location: Location) -> str:
        """Return where the value at a location was written: a variable, or a place in the file."""
        for length in range(len(location), 0, -1):
            variable = self.named.get(location[:length])
            if variable is not None:
                return variable
        return dotted(location)


def overlay(written: Mapping[str, object], environ: Mapping[str, str]) -> Overlay:
    """Return `written` with the variables laid over it; neither argument is changed."""
    document = {
        key: dict(value) if isinstance(value, dict) else value for key, value in written.items()
    }
    named: dict[Location, str] = {}
    faults = list(_unknown(environ, _referred(written)))
    for variable, (location, read) in VARIABLES.items():
        if variable not in environ:
            continue
        try:
            value = read(environ[variable])
        except ValueError as error:
            faults.append(f"{variable}: {error}")
            value = _PLACEHOLDER.get(variable)
        if value is not None and _put(document, location, value):
            named[location] = variable
    if not document.get("upstream"):
        faults += _azure(document, named, environ)
    return Overlay(document=document, named=named, faults=tuple(faults))


def _put(document: dict[str, object], location: tuple[str, ...], value: object) -> bool:
    table: object = document
    for part in location[:-1]:
        table = table.setdefault(part, {}) if isinstance(table, dict) else None
    if not isinstance(table, dict):
        return False
    table[location[-1]] = value
    return True


def _azure(
    document: dict[str, object], named: dict[Location, str], environ: Mapping[str, str]
) -> Iterator[str]:
    """Make the one upstream of the two variables every Azure SDK knows, if both are set."""
    endpoint, key = environ.get(AZURE_ENDPOINT), environ.get(AZURE_KEY)
    if not endpoint or not key:
        return
    secret = Secret(key)
    try:
        secret = _text_or_file(key)
    except ValueError as error:
        yield f"{AZURE_KEY}: {error}"
    document["upstream"] = [
        {"name": "azure", "kind": "azure-openai", "endpoint": endpoint, "api_key": secret}
    ]
    named["upstream", 0, "endpoint"] = AZURE_ENDPOINT
    named["upstream", 0, "api_key"] = AZURE_KEY


def _unknown(environ: Mapping[str, str], referred: frozenset[str]) -> Iterator[str]:
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in VARIABLES or name in referred:
            continue
        if _SERVICE_LINK.fullmatch(name):
            continue
        if name.endswith("_PORT") and _SERVICE_ADDRESS.fullmatch(environ[name]):
            continue
        yield f"{name}: unknown environment variable{hint(name, VARIABLES)}"


def _referred(value: object) -> frozenset[str]:
    """Return the variables that a document names as ``env:NAME``."""
    match value:
        case str():
            return frozenset({value[4:]}) if value.startswith("env:") else frozenset()
        case dict():
            return frozenset[str]().union(*(_referred(item) for item in value.values()))
        case list():
            return frozenset[str]().union(*(_referred(item) for item in value))
        case _:
            return frozenset()


def _text_or_file(text: str) -> Secret:
    if text.startswith("file:"):
        return read_secret(text, environ={}, folder=Path.cwd())
    return checked_secret(text, "the value")


def _here(text: str) -> str:
    return str(Path.cwd() / text) if text else text


def _store_here(text: str) -> str:
    path = sqlite_path(text)
    return text if path is None or not path.name else f"sqlite:///{Path.cwd() / path}"


def _integer(text: str) -> object:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else text


def _seconds(text: str) -> object:
    return float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) else text


def _comma_list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


_Reader = Callable[[str], object]

VARIABLES: Final[Mapping[str, tuple[tuple[str, ...], _Reader]]] = {
    "AOAIGW_LISTEN_DATA": (("listen", "data"), str),
    "AOAIGW_LISTEN_ADMIN": (("listen", "admin"), str),
    "AOAIGW_LISTEN_TLS_CERT": (("listen", "tls_cert"), _here),
    "AOAIGW_LISTEN_TLS_KEY": (("listen", "tls_key"), _here),
    "AOAIGW_LISTEN_TRUSTED_PROXIES": (("listen", "trusted_proxies"), _comma_list),
    "AOAIGW_LISTEN_CONNECTIONS_MAX": (("listen", "connections_max"), _integer),
    "AOAIGW_STORE_URL": (("store", "url"), _store_here),
    "AOAIGW_SPOOL_DIR": (("spool", "dir"), _here),
    "AOAIGW_SPOOL_QUOTA_BYTES": (("spool", "quota_bytes"), _integer),
    "AOAIGW_POLICIES": (("policies",), _here),
    "AOAIGW_KEY_PEPPER": (("key_pepper",), _text_or_file),
    "AOAIGW_SCRAPE_TOKEN": (("scrape_token",), _text_or_file),
    "AOAIGW_SETTLE_TIMEOUT_S": (("settle_timeout_s",), _seconds),
    "AOAIGW_DRAIN_S": (("drain_s",), _seconds),
    "AOAIGW_REQUEST_BYTES_MAX": (("request_bytes_max",), _integer),
}
# A faulty secret stands in as one, so that nothing else complains that it is missing.
_PLACEHOLDER: Final = {"AOAIGW_KEY_PEPPER": Secret("·" * 32), "AOAIGW_SCRAPE_TOKEN": Secret("·")}
