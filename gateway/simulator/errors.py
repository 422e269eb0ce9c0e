"""Azure's refusals, in its two dialects.

The front door (API management) says `{"error": {"code", "message"}}`; the Assistants and
Responses backends speak OpenAI's `{"error": {"message", "type", "param", "code"}}`.
"""

from collections.abc import Mapping
from typing import Any

INVALID_REQUEST = "invalid_request_error"


class Fault(Exception):
    """An answer that is not a success: status, body and the headers it brings."""

    def __init__(
        self, status: int, error: dict[str, Any], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, error.get("message"))
        self.status = status
        self.body = {"error": error}
        self.headers = dict(headers or {})


def front_door(status: int, code: str, message: str) -> Fault:
    """Return a refusal of the front door."""
    return Fault(status, {"code": code, "message": message})


def backend(
    message: str, *, status: int = 400, param: str | None = None, code: str | None = None
) -> Fault:
    """Return a refusal of the backend, in OpenAI's words."""
    error = {"message": message, "type": INVALID_REQUEST, "param": param, "code": code}
    return Fault(status, error)


def resource_not_found() -> Fault:
    """Return what an unknown route, or a dated route without api-version, is answered."""
    return front_door(404, "404", "Resource not found")


def unauthorized() -> Fault:
    """Return what a missing or wrong key is answered."""
    return front_door(
        401,
        "401",
        "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide "
        "a valid key for an active subscription and use a correct regional API endpoint for your "
        "resource.",
    )


def version_not_supported() -> Fault:
    """Return what an unknown or retired api-version is answered."""
    return front_door(400, "BadRequest", "API version not supported")


def deployment_not_found() -> Fault:
    """Return what an unknown deployment is answered."""
    return Fault(
        404,
        {
            "type": INVALID_REQUEST,
            "code": "DeploymentNotFound",
            "message": "The API deployment for this resource does not exist. If you created the "
            "deployment within the last 5 minutes, please wait a moment and try again.",
        },
    )


def missing(param: str) -> Fault:
    """Return what the absence of a required parameter is answered."""
    return backend(
        f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )


def no_such(kind: str, given: str) -> Fault:
    """Return what an unknown assistant, thread, message, run, step or response is answered."""
    return backend(f"No {kind} found with id '{given}'.", status=404)


def no_such_store(given: str) -> Fault:
    """Return what an unknown vector store is answered."""
    return backend(f"No vector store found with id '{given}'.", status=404)


def no_such_file(given: str) -> Fault:
    """Return what an unknown file is answered."""
    return backend(f"No such File object: {given}", status=404, param="id")


def rate_limited() -> Fault:
    """Return the front door's 429, which may be retried after one second."""
    message = (
        "Requests have exceeded token rate limit of your current OpenAI S0 pricing tier. Please "
        "retry after 1 second."
    )
    headers = {"retry-after": "1", "retry-after-ms": "1000"}
    return Fault(429, {"code": "429", "message": message}, headers)


def directed(status: int) -> Fault:
    """Return the failure a directive asked for."""
    if status == 429:
        return rate_limited()
    message = "The server had an error while processing your request. Sorry about that!"
    error = {"message": message, "type": "server_error", "param": None, "code": None}
    return Fault(status, error)
