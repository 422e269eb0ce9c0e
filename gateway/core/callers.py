"""Callers: what a team key looks like, and who is calling.

A key is ``gw-<public>-<secret>``: 12 and 39 characters of lower-case base32 (``a-z2-7``). The
public part names the key on ledger lines and in lists; the secret part carries 192 bits. What is
kept is an HMAC-SHA256 of the whole key under a pepper that does not lie in the same store, so
neither the store nor a guess at a prefix is of use to a thief.

A caller shows the key in exactly one of two ways, or in both if they are byte-equal::

    api-key: KEY
    Authorization: Bearer KEY          the scheme in any case, one space or more

Everything else (no key, two different ones, a list, another scheme, a revoked key) is one and the
same refusal: a caller learns nothing from it but that it was not let in. Every attempt costs one
HMAC over at most ``CREDENTIAL_BYTES_MAX`` bytes and one look-up by the full digest, whatever is
wrong with it.

A ring never changes. Issuing or revoking a key means making a new ring and putting it in the old
one's place, so that no request sees half a change.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable
from typing import Final, Protocol

from gateway.core.errors import Code, Refusal
from gateway.core.model import Caller, Micros

ENTROPY_BYTES: Final = 32
CREDENTIAL_BYTES_MAX: Final = 256

_PUBLIC_CHARS = 12
_PUBLIC_ENTROPY_BYTES = 8
_PUBLIC = re.compile(r"[a-z2-7]{12}")
_BEARER = re.compile(rb"(?i:bearer) +([^\s,]+)")
_MESSAGE: Final = (
    "access denied: the key is missing, not known here, revoked, or given twice; "
    "send one team key of this gateway as `api-key` or as `Authorization: Bearer`"
)
_NO_DIGEST = bytes(32)


class KnownKey(Protocol):
    """What a ring must know of a key; the store's records have it."""

    @property
    def public(self) -> str:
        """The part that is safe to show."""

    @property
    def digest(self) -> bytes:
        """What `digest` returned for the whole key."""

    @property
    def team(self) -> str:
        """The team that the key speaks for."""

    @property
    def revoked_at(self) -> Micros | None:
        """From when on it is refused; None means that it is not revoked."""


def mint(entropy: bytes) -> tuple[str, str]:
    """Return a new key as (public part, whole key). The whole key must be shown once and not kept.

    Raises:
        ValueError: `entropy` has not exactly ``ENTROPY_BYTES`` bytes.
    """
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"`{len(entropy)}` bytes of entropy, `{ENTROPY_BYTES}` are needed")
    public = _base32(entropy[:_PUBLIC_ENTROPY_BYTES])[:_PUBLIC_CHARS]
    secret = _base32(entropy[_PUBLIC_ENTROPY_BYTES:])
    return public, f"gw-{public}-{secret}"


def digest(full_key: str, pepper: bytes) -> bytes:
    """Return what is kept of a key: its HMAC-SHA256 under the pepper, 32 bytes."""
    return hmac.digest(pepper, full_key.encode(), "sha256")


def is_public(text: str) -> bool:
    """Return whether `text` has the form of a key's public part."""
    return _PUBLIC.fullmatch(text) is not None


class KeyRing:
    """All keys as they stood at one moment; answers who a request comes from."""

    __slots__ = ("_by_digest", "_pepper")

    def __init__(self, records: Iterable[KnownKey], pepper: bytes) -> None:
        self._by_digest = {
            record.digest: (
                record.digest,
                Caller(team=record.team, key=record.public),
                record.revoked_at,
            )
            for record in records
        }
        self._pepper = pepper

    def identify(self, headers: Iterable[tuple[bytes, bytes]], at: Micros) -> Caller:
        """Return the caller that the headers prove. Header names are in lower case.

        Raises:
            Refusal: ``INVALID_KEY``, with the same message whatever is wrong.
        """
        credential = _credential(headers)
        shown = hmac.digest(self._pepper, credential, "sha256")
        kept, caller, revoked_at = self._by_digest.get(shown, (_NO_DIGEST, None, None))
        matches = hmac.compare_digest(kept, shown)
        if not matches or caller is None or (revoked_at is not None and revoked_at <= at):
            raise Refusal(Code.INVALID_KEY, _MESSAGE)
        return caller


def _credential(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the one credential the headers carry; empty, which is no key, if it is not one."""
    found: set[bytes] = set()
    for name, value in headers:
        if name == b"api-key":
            found.add(value)
        elif name == b"authorization":
            bearer = _BEARER.fullmatch(value)
            found.add(b"" if bearer is None else bearer[1])
    if len(found) != 1:
        return b""
    credential = found.pop()
    return credential if len(credential) <= CREDENTIAL_BYTES_MAX else b""


def _base32(entropy: bytes) -> str:
    return base64.b32encode(entropy).decode("ascii").rstrip("=").lower()
