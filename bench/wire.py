"""What goes over the wire in every measurement, the same bytes for every candidate.

A chat request of about 1 KB with a reply of about 2 KB, and the same request for a stream. A
stream's chunks carry the moment at which the upstream wrote them, on the clock that all processes
of a machine share, so that the client sees how long each was under way.
"""

from __future__ import annotations

import json
import re
import time

MODEL = "gpt-4o"
PATH = f"/openai/deployments/{MODEL}/chat/completions?api-version=2024-10-21"
ASSISTANTS = "/openai/assistants?api-version=2024-05-01-preview"
CHUNK_EVERY_S = 0.020
MOMENT = re.compile(rb"@(\d{20});")
DONE = b"data: [DONE]\n\n"

_REQUEST_BYTES = 1024
_REPLY_BYTES = 2048
_STREAM_CHUNKS = re.compile(rb'"user": ?"bench-(\d+)"')
_PROMPT = "Summarise what the quarterly figures say about the cost of each team. "
_USAGE = {"prompt_tokens": 200, "completion_tokens": 400, "total_tokens": 600}
_BASE = {"id": "chatcmpl-bench", "created": 1_790_000_000, "model": "gpt-4o-2024-11-20"}


def chat_request() -> bytes:
    """Return a chat request of 1 KB."""
    return _request({"max_tokens": 800, "temperature": 0.2})


def stream_request(chunks: int) -> bytes:
    """Return a request for a stream of that many chunks; it asks for the usage chunk."""
    options = {"include_usage": True}
    return _request({"stream": True, "stream_options": options, "user": f"bench-{chunks}"})


def wanted_chunks(request: bytes) -> int | None:
    """Return how many chunks a request asks for, or None if it asks for a whole reply.

    Whoever forwards the request may have written the JSON anew, so its spaces do not matter.
    """
    found = _STREAM_CHUNKS.search(request)
    return int(found[1]) if found else None


def chat_reply() -> bytes:
    """Return a whole HTTP reply with a chat completion of 2 KB."""
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None}
    empty = _completion({**choice, "message": {"role": "assistant", "content": ""}})
    text = _padding(_REPLY_BYTES - len(empty))
    body = _completion({**choice, "message": {"role": "assistant", "content": text}})
    return _head(b"application/json", b"content-length: %d\r\n" % len(body)) + body


def assistant_path(name: str) -> str:
    """Return the target of a question for one assistant."""
    return ASSISTANTS.replace("?", f"/{name}?")


def assistant_reply() -> bytes:
    """Return a whole HTTP reply with an assistant, less than 1 KB."""
    assistant = {
        "id": "asst_bench",
        "object": "assistant",
        "created_at": 1_790_000_000,
        "model": MODEL,
        "instructions": "You are a careful analyst.",
        "tools": [],
    }
    body = json.dumps(assistant).encode()
    return _head(b"application/json", b"content-length: %d\r\n" % len(body)) + body


def stream_head() -> bytes:
    """Return the head of a streamed reply."""
    return _head(b"text/event-stream; charset=utf-8", b"transfer-encoding: chunked\r\n")


def stream_chunk() -> bytes:
    """Return one event of a stream, framed, with the moment in it."""
    return _BEFORE_MOMENT + b"@%020d;" % time.monotonic_ns() + _AFTER_MOMENT


def stream_end() -> bytes:
    """Return the usage chunk and the end of a stream, framed."""
    event = {**_BASE, "object": "chat.completion.chunk", "choices": [], "usage": _USAGE}
    return _framed(b"data: %b\n\n" % json.dumps(event).encode()) + _framed(DONE) + b"0\r\n\r\n"


def _request(more: dict[str, object]) -> bytes:
    def body(text: str) -> bytes:
        messages = [
            {"role": "system", "content": "You are a careful analyst."},
            {"role": "user", "content": text},
        ]
        return json.dumps({"messages": messages, **more}).encode()

    return body(_padding(_REQUEST_BYTES - len(body(""))))


def _completion(choice: dict[str, object]) -> bytes:
    document = {**_BASE, "object": "chat.completion", "choices": [choice], "usage": _USAGE}
    return json.dumps(document).encode()


def _padding(length: int) -> str:
    return (_PROMPT * (length // len(_PROMPT) + 1))[:length]


def _head(content_type: bytes, length: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%bapim-request-id: bench\r\n"
        b"x-ratelimit-remaining-requests: 999\r\nx-ratelimit-remaining-tokens: 99999\r\n"
        b"x-ms-region: Sweden Central\r\n\r\n" % (content_type, length)
    )


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _around_moment() -> tuple[bytes, bytes]:
    delta = {"index": 0, "delta": {"content": "|"}, "logprobs": None, "finish_reason": None}
    event = {**_BASE, "object": "chat.completion.chunk", "choices": [delta], "usage": None}
    data = b"data: %b\n\n" % json.dumps(event).encode().replace(b"|", b"@%020d;" % 0)
    before, after = _framed(data).split(b"@%020d;" % 0)
    return before, after


_BEFORE_MOMENT, _AFTER_MOMENT = _around_moment()
