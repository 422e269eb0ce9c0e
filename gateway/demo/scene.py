"""The scene: the SDK's clients, what the story remembers, and how a promise is held to.

The clients are the SDK's own, changed in one thing: they do not look for a proxy, since everything
here is on this machine. What the gateway alone can tell (its pages, its metrics) is asked over
plain HTTP.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from openai import APIStatusError, AzureOpenAI, DefaultHttpxClient, OpenAI
from prometheus_client.parser import text_string_to_metric_families

from gateway.demo.stage import Stage

# The version the story's programs were written for, and the one before it, which has retired.
VERSION: Final = "2024-05-01-preview"
OLD_VERSION: Final = "2024-02-15-preview"

_ANSWER_S = 10.0
_DEADLINE_S = 20.0
_LOOK_EVERY_S = 0.05

_Seen = TypeVar("_Seen")


class StoryBroke(Exception):
    """Something did not happen as told."""


def expect(*, that: str, got: object, wanted: object) -> None:
    """Return if `got` equals `wanted`.

    Raises:
        StoryBroke: it does not; the message has both.
    """
    if got != wanted:
        raise StoryBroke(f"{that}: expected `{wanted}`, got `{got}`")


def refused(call: Callable[[], object], *, status: int, code: str) -> APIStatusError:
    """Return the exception with which the SDK tells that `call` was refused.

    Raises:
        StoryBroke: it was not refused, or otherwise.
    """
    try:
        call()
    except APIStatusError as error:
        told = (error.status_code, error.code)
        expect(that="status and code of the refusal", got=told, wanted=(status, code))
        return error
    raise StoryBroke(f"expected a refusal with `{status} {code}`, and it went through")


def message_of(error: APIStatusError) -> str:
    """Return the gateway's own sentence from the SDK's exception."""
    return str(error.body["message"]) if isinstance(error.body, dict) else error.message


@dataclass(slots=True)
class Memory:
    """Ids that one step leaves to the next."""

    file: str = ""
    assistant: str = ""
    thread: str = ""
    run: str = ""
    picture: str = ""
    other_assistant: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a step plays with: each team's client as it would write it, and Azure's own door."""

    stage: Stage
    analytics: AzureOpenAI
    research: AzureOpenAI
    research_old: AzureOpenAI
    research_v1: OpenAI
    azure: AzureOpenAI
    memory: Memory = field(default_factory=Memory)

    def sessions_used(self, team: str) -> int:
        """Return how many sessions the team has used today, once nothing is left unsettled."""
        self.await_metric("aoaigw_unsettled_intents", 0)
        page = self.desk("me", team)
        return int(page["used"]["day"]["sessions"]["used"])

    def settled(self, request: str, team: str) -> Mapping[str, Any]:
        """Return the gateway's page about a request, once it is settled.

        Raises:
            StoryBroke: it is not settled within the deadline.
        """
        return _await(
            lambda: self.desk(f"requests/{request}", team),
            lambda page: page["state"] == "settled",
            what=f"request `{request}` is settled",
        )

    def desk(self, page: str, team: str) -> Mapping[str, Any]:
        """Return a page below `/gateway/v1/` as a team sees it."""
        content = fetch(f"{self.stage.url}/gateway/v1/{page}", key=self.stage.keys[team])
        found: Mapping[str, Any] = json.loads(content)
        return found

    def metric(self, name: str, **labels: str) -> int:
        """Return the sum of all samples of a metric that carry these labels."""
        text = fetch(f"{self.stage.admin_url}/metrics").decode()
        return round(
            sum(
                sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name == name and labels.items() <= sample.labels.items()
            )
        )

    def await_metric(self, name: str, value: int) -> None:
        """Return once a metric has this value.

        Raises:
            StoryBroke: it does not get there within the deadline.
        """
        _await(
            lambda: self.metric(name),
            lambda got: got == value,
            what=f"metric `{name}` is `{value}`",
        )

    def requests_arrived(self, team: str) -> int:
        """Return how many requests of a team the gateway has answered to the last byte."""
        self.await_metric("aoaigw_requests_in_flight", 0)
        return self.metric("aoaigw_requests_total", team=team)

    def invoice(self) -> Mapping[str, Any]:
        """Return the simulated Azure's invoice."""
        found: Mapping[str, Any] = json.loads(fetch(f"{self.stage.azure_url}/simulator/invoice"))
        return found


@dataclass(frozen=True, slots=True)
class Step:
    """One thing a developer does. `play` does it, holds it to what was promised, and yields what
    came back, a line at a time."""

    team: str
    title: str
    code: str
    play: Callable[[Scene], Iterator[str]]


@contextmanager
def open_scene(stage: Stage) -> Iterator[Scene]:
    """Yield the scene on a stage; its clients are closed at the end."""
    with ExitStack() as stack:

        def dated(team: str, version: str) -> AzureOpenAI:
            client = AzureOpenAI(
                azure_endpoint=stage.url,
                api_key=stage.keys[team],
                api_version=version,
                http_client=DefaultHttpxClient(trust_env=False),
            )
            return stack.enter_context(client)

        v1 = OpenAI(
            base_url=f"{stage.url}/openai/v1/",
            api_key=stage.keys["research"],
            http_client=DefaultHttpxClient(trust_env=False),
        )
        azure = AzureOpenAI(
            azure_endpoint=stage.azure_url,
            api_key=stage.azure_key,
            api_version=VERSION,
            http_client=DefaultHttpxClient(trust_env=False),
        )
        yield Scene(
            stage=stage,
            analytics=dated("analytics", VERSION),
            research=dated("research", VERSION),
            research_old=dated("research", OLD_VERSION),
            research_v1=stack.enter_context(v1),
            azure=stack.enter_context(azure),
        )


def fetch(url: str, *, key: str | None = None) -> bytes:
    """Return what stands at an address of this machine.

    Raises:
        StoryBroke: it is not answered with 200.
        OSError: nobody answers.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_ANSWER_S)
    try:
        connection.request("GET", parts.path, headers={"api-key": key} if key else {})
        reply = connection.getresponse()
        content = reply.read()
    finally:
        connection.close()
    expect(that=f"status of `{parts.path}`", got=reply.status, wanted=200)
    return content


def _await(look: Callable[[], _Seen], is_there: Callable[[_Seen], bool], *, what: str) -> _Seen:
    deadline = time.monotonic() + _DEADLINE_S
    while not is_there(seen := look()):
        if time.monotonic() > deadline:
            raise StoryBroke(f"waited {_DEADLINE_S:.0f} s in vain until {what}")
        time.sleep(_LOOK_EVERY_S)
    return seen
