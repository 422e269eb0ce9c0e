"""A client of the simulated resource that speaks plain HTTP, for tests."""

import json
from types import TracebackType
from typing import Any, Self

import httpx

KEY = "azure-simulator-key"
VERSION = "2024-05-01-preview"
START_S = 1_790_000_000
CODE_INTERPRETER = {"type": "code_interpreter"}
AUTO = {"type": "code_interpreter", "container": {"type": "auto"}}


class Resource:
    """Sends requests to one simulated resource, with its key."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, headers={"api-key": KEY}, timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.http.close()

    def dated(
        self, method: str, path: str, body: Any = None, *, version: str = VERSION
    ) -> httpx.Response:
        """Send a request to the dated surface."""
        target = f"/openai{path}{'&' if '?' in path else '?'}api-version={version}"
        return self.http.request(method, target, json=body)

    def v1(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Send a request to `/openai/v1`."""
        return self.http.request(method, f"/openai/v1{path}", json=body)

    def assistant(self, **more: Any) -> str:
        """Create an assistant that may use code interpreter and return its id."""
        body = {"model": "gpt-4o", "tools": [CODE_INTERPRETER], **more}
        return str(self.dated("POST", "/assistants", body).json()["id"])

    def thread(self, text: str) -> str:
        """Create a thread with one message and return its id."""
        body = {"messages": [{"role": "user", "content": text}]}
        return str(self.dated("POST", "/threads", body).json()["id"])

    def say(self, thread: str, text: str) -> None:
        """Add a message to a thread."""
        message = {"role": "user", "content": text}
        answer = self.dated("POST", f"/threads/{thread}/messages", message)
        assert answer.status_code == 200, answer.text

    def start(self, thread: str, assistant: str, **more: Any) -> str:
        """Start a run and return its path below the surface's root."""
        body = {"assistant_id": assistant, **more}
        answer = self.dated("POST", f"/threads/{thread}/runs", body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] == "queued"
        return f"/threads/{thread}/runs/{answer.json()['id']}"

    def finish(self, run: str) -> Any:
        """Let the run's ten seconds pass and return it."""
        self.advance(10)
        return self.dated("GET", run).json()

    def ask(self, thread: str, assistant: str, text: str) -> Any:
        """Add a message, run the assistant in no time and return the run."""
        self.say(thread, f"{text} [[sim run_s=0]]" if "[[sim" not in text else text)
        return self.dated("GET", self.start(thread, assistant)).json()

    def events(self, path: str, body: Any) -> list[tuple[str, Any]]:
        """Send a streaming request to the dated surface and return its events."""
        return read_events(self.dated("POST", path, {**body, "stream": True}).text)

    def respond(self, text: str, **more: Any) -> Any:
        """Create a response with code interpreter in an automatic container."""
        body = {"model": "gpt-4o", "input": text, "tools": [AUTO], **more}
        answer = self.v1("POST", "/responses", body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        answer = self.http.post("/simulator/clock", json={"advance_s": seconds})
        assert answer.status_code == 200, answer.text

    def invoice(self) -> Any:
        """Return the invoice."""
        return self.http.get("/simulator/invoice").json()

    def journal(self, after: int = 0) -> Any:
        """Return the journal."""
        return self.http.get(f"/simulator/journal?after={after}").json()


def read_events(text: str) -> list[tuple[str, Any]]:
    """Return the named events of a stream; `[DONE]` stays text."""
    events = []
    for block in text.split("\n\n")[:-1]:
        lines = block.split("\n")
        name = lines[0].removeprefix("event: ") if len(lines) == 2 else ""
        data = lines[-1].removeprefix("data: ")
        events.append((name, data if data == "[DONE]" else json.loads(data)))
    return events


def names_of(events: list[tuple[str, Any]]) -> list[str]:
    """Return the names of events, a row of the same deltas shown once."""
    names: list[str] = []
    for name, _ in events:
        if not (names and names[-1] == name and name.endswith("delta")):
            names.append(name)
    return names
