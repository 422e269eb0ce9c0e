"""The audit: what policy said of files, who was stopped at a cap, and whose key was refused.

Never any content, and never a key.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from starlette.types import Scope

from gateway.core.errors import Code, Refusal
from gateway.exchange import Asked
from gateway.house import House
from gateway.intake import UploadRefused
from gateway.ports import Decision, StoreUnavailable

_log = logging.getLogger("gateway.audit")
_STOPS = (Code.INSUFFICIENT_QUOTA, Code.INSUFFICIENT_QUOTA_403)


async def keep_refusal(house: House, asked: Asked | None, refusal: Refusal) -> None:
    """Keep what policy refused, if it was a file or a stop at a cap.

    Other refusals are only counted. A refusal stands whether or not it can be kept.
    """
    refused = refusal.refused
    if asked is None or not (refused.code in _STOPS or isinstance(refusal, UploadRefused)):
        return
    decision = Decision(
        request=asked.id,
        at=asked.at,
        team=asked.caller.team,
        operation=asked.operation.name,
        rule=refused.rule or "",
        verdict="refused",
        status=refused.code.status,
    )
    if isinstance(refusal, UploadRefused):
        file_type = refusal.verdict.file_type
        decision = replace(
            decision,
            file_sha256=refusal.sha256,
            file_bytes=refusal.size_bytes,
            file_type=file_type,
        )
        house.telemetry.uploaded(
            team=asked.caller.team,
            verdict="refused",
            rule=refusal.verdict.rule,
            file_type=file_type,
        )
    try:
        await house.store.decide(decision)
    except StoreUnavailable:
        _log.warning("a decision could not be kept (request %s)", asked.id)


def log_refused_key(scope: Scope, refusal: Refusal, request_id: str) -> None:
    """Write down where a refused key came from; other refusals are none of this."""
    if refusal.refused.code is Code.INVALID_KEY:
        client = scope.get("client")
        address = client[0] if client else "unknown"
        _log.info("a key was refused (client %s, request %s)", address, request_id)


async def keep_permission(house: House, asked: Asked) -> None:
    """Keep that an upload was found good; it goes on only once that is kept.

    Raises:
        StoreUnavailable: it cannot be kept.
    """
    upload = asked.upload
    if upload is None:
        return
    await house.store.decide(
        Decision(
            request=asked.id,
            at=asked.at,
            team=asked.caller.team,
            operation=asked.operation.name,
            rule="permitted",
            verdict="permitted",
            status=200,
            file_sha256=upload.file.sha256,
            file_bytes=upload.file.size_bytes,
            file_type=upload.file_type,
        )
    )
    house.telemetry.uploaded(
        team=asked.caller.team,
        verdict="permitted",
        rule="permitted",
        file_type=upload.file_type,
    )
