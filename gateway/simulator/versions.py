"""Which api-versions the simulated resource knows, and what each surface allows.

Source: Azure OpenAI "API version lifecycle" and "API version deprecation" pages (2026-09); the
bodies are those users have reported for the routes in question.
"""

from dataclasses import dataclass

from gateway.simulator.errors import front_door, resource_not_found, version_not_supported

ASSISTANTS_SINCE = "2024-05-01"
BATCHES_SINCE = "2024-07-01"
UPLOADS_SINCE = "2024-08-01"
RESPONSES_SINCE = "2025-03-01"

_KNOWN = frozenset(
    {"2024-02-01", "2024-06-01", "2024-10-21"}
    | {
        f"{date}-preview"
        for date in (
            "2024-03-01",
            "2024-04-01",
            "2024-05-01",
            "2024-07-01",
            "2024-08-01",
            "2024-09-01",
            "2024-10-01",
            "2024-12-01",
            "2025-01-01",
            "2025-02-01",
            "2025-03-01",
            "2025-04-01",
        )
    }
)
_RETIRED = frozenset(
    f"{date}-preview"
    for date in (
        "2023-03-15",
        "2023-04-01",
        "2023-04-15",
        "2023-06-01",
        "2023-07-01",
        "2023-08-01",
        "2023-09-01",
        "2023-10-01",
        "2023-12-01",
        "2024-02-15",
    )
)


_PROJECT = frozenset({"v1", "2025-05-01", "2025-05-15-preview"})


@dataclass(frozen=True, slots=True)
class ApiVersions:
    """The dated api-versions that are served, those that no longer are, and those of projects."""

    known: frozenset[str] = _KNOWN
    retired: frozenset[str] = _RETIRED
    project: frozenset[str] = _PROJECT

    def check_dated(self, given: str | None) -> str:
        """Return the api-version of a dated request.

        Raises:
            Fault: 404 if it is missing, 400 if it is unknown or retired.
        """
        if not given:
            raise resource_not_found()
        if given in self.retired or given not in self.known:
            raise version_not_supported()
        return given

    def check_v1(self, given: str | None) -> str:
        """Return the api-version of a request under `/openai/v1`, which may be absent.

        Raises:
            Fault: 400 if a dated one was sent.
        """
        if given not in (None, "v1", "preview"):
            raise front_door(
                400, "BadRequest", "api-version query parameter is not allowed when using /v1 path"
            )
        return given or "v1"

    def check_project(self, given: str | None) -> str:
        """Return the api-version of a request under `/api/projects`.

        Raises:
            Fault: 404 if it is missing, 400 if it is another's.
        """
        if not given:
            raise resource_not_found()
        if given not in self.project:
            raise version_not_supported()
        return given


def check_assistants(version: str) -> None:
    """Raise the 404 of a version that has no Assistants v2."""
    if version[:10] < ASSISTANTS_SINCE:
        raise resource_not_found()


def check_batches(version: str) -> None:
    """Raise the 404 of a version that has no batches."""
    if version[:10] < BATCHES_SINCE:
        raise resource_not_found()


def check_uploads(version: str) -> None:
    """Raise the 404 of a version that has no uploads in parts."""
    if version[:10] < UPLOADS_SINCE:
        raise resource_not_found()


def check_searches(version: str) -> None:
    """Raise the 404 of a version whose vector stores cannot be searched or read."""
    if version[:10] < RESPONSES_SINCE:
        raise resource_not_found()


def check_responses(version: str) -> None:
    """Raise the 400 of a dated version that is too old for Responses."""
    if version not in ("v1", "preview") and version[:10] < RESPONSES_SINCE:
        raise front_door(
            400,
            "BadRequest",
            "Azure OpenAI Responses API is enabled only for api-version 2025-03-01-preview and "
            "later",
        )
