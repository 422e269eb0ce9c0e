"""Refusals: the closed list of what the gateway itself can answer instead of Azure.

A refusal speaks Azure's error body (``message``, ``type``, ``param``, ``code``), so that every SDK
raises the exception its users expect, and says what the SDK may do: ``x-should-retry: false``
where a retry cannot succeed. A stop at a cap never carries ``retry-after``, which some SDKs would
obey.

A refusal is not an exception of the program: it is an answer. It is raised only because the
street has many doors; `relay.py` is the one place that turns it into bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum


class Code(Enum):
    """Every code a caller can see from us, with its status and whether a retry may help."""

    INVALID_KEY = ("invalid_api_key", 401, False)
    NOT_FOUND = ("not_found", 404, False)
    UNKNOWN_OPERATION = ("unknown_operation", 404, False)
    METHOD_NOT_ALLOWED = ("method_not_allowed", 405, False)
    MALFORMED_REQUEST = ("malformed_request", 400, False)
    INVALID_JSON = ("invalid_json", 400, False)
    MALFORMED_UPLOAD = ("malformed_upload", 400, False)
    UNSUPPORTED_API_VERSION = ("unsupported_api_version", 400, False)
    UNSUPPORTED_ENCODING = ("unsupported_encoding", 415, False)
    UNSUPPORTED_CONTENT_TYPE = ("unsupported_content_type", 415, False)
    UNSUPPORTED_FILE_TYPE = ("unsupported_file_type", 415, False)
    REQUEST_TOO_LARGE = ("request_too_large", 413, False)
    FILE_TOO_LARGE = ("file_too_large", 413, False)
    NOT_PERMITTED = ("not_permitted", 403, False)
    UNPRICED_MODEL = ("unpriced_model", 403, False)
    INSUFFICIENT_QUOTA = ("insufficient_quota", 429, False)
    INSUFFICIENT_QUOTA_403 = ("insufficient_quota", 403, False)
    RATE_LIMIT_EXCEEDED = ("rate_limit_exceeded", 429, True)
    INTERNAL_ERROR = ("internal_error", 500, False)
    UPSTREAM_UNREACHABLE = ("upstream_unreachable", 502, True)
    GATEWAY_UNAVAILABLE = ("gateway_unavailable", 503, True)
    UPSTREAM_OUTCOME_UNKNOWN = ("upstream_outcome_unknown", 504, False)
    UPSTREAM_OUTCOME_UNKNOWN_502 = ("upstream_outcome_unknown", 502, False)

    @property
    def word(self) -> str:
        """The code as the caller reads it."""
        return self.value[0]

    @property
    def status(self) -> int:
        """The HTTP status it is answered with."""
        return self.value[1]

    @property
    def may_retry(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.value[2]


_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "insufficient_quota",
    500: "server_error",
    502: "server_error",
    503: "server_error",
    504: "server_error",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """What a refusal says: code, sentence, the parameter at fault and the rule behind it."""

    code: Code
    message: str
    param: str | None = None
    rule: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def body(self) -> bytes:
        """Return the answer's body in Azure's shape; it ends with no newline."""
        kind = _TYPES.get(self.code.status, "invalid_request_error")
        if self.code is Code.RATE_LIMIT_EXCEEDED:
            kind = "rate_limit_error"
        error: dict[str, object] = {
            "message": self.message,
            "type": kind,
            "param": self.param,
            "code": self.code.word,
        }
        return json.dumps({"error": error}, ensure_ascii=False).encode()

    def reply_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that go with the body, except for the request id."""
        headers = [(b"content-type", b"application/json")]
        if not self.code.may_retry:
            headers.append((b"x-should-retry", b"false"))
        headers.extend((name.encode(), value.encode()) for name, value in self.headers)
        return headers


class Refusal(Exception):
    """Raised wherever a request may not go on; carries the whole answer."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        param: str | None = None,
        rule: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(f"{code.word}: {message}")
        self.refused = Refused(code, message, param=param, rule=rule, headers=headers)


def not_found() -> Refusal:
    """Return the one answer to every id that is foreign, unknown or deleted.

    It names neither the id nor the kind, so that the three cannot be told apart.
    """
    return Refusal(Code.NOT_FOUND, "no such object, or it does not belong to your team")
