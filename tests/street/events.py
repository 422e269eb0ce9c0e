"""Event streams as the standard allows them, made up at random: no two alike, and all legal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
_BOM = b"\xef\xbb\xbf"
_ENDS = (b"\n", b"\r\n", b"\r")
_TEXTS = ("", " ", "a", "zwölf", "三 🎲", "\\n\\r", ": x", "data: y", '"', "[DONE]", "{", "\t")
_HUGE_BYTES = 70_000


@dataclass(frozen=True, slots=True)
class Stream:
    """A chat's stream: what stands before the usage, its one event, and what stands after it."""

    before: bytes
    usage: bytes
    after: bytes

    @property
    def whole(self) -> bytes:
        """Everything, as Azure sends it."""
        return self.before + self.usage + self.after

    @property
    def hidden(self) -> bytes:
        """Everything but the usage."""
        return self.before + self.after


def made_up(random: Random) -> Stream:
    """Return a stream of up to 12 events with all kinds of fields, lines and line ends."""
    before = [_event(random) for _ in range(random.randint(0, 6))]
    if before and random.random() < 0.3:
        before.insert(0, _BOM)
    told = {"object": "chat.completion.chunk", "choices": [], "usage": USAGE}
    usage = _ended(random, [*_fields(random), b"data: " + json.dumps(told).encode()])
    after = [_event(random) for _ in range(random.randint(0, 5))]
    if random.random() < 0.2:
        after.append(b"data: never ended")
    return Stream(b"".join(before), usage, b"".join(after))


def cut(random: Random, stream: bytes) -> Sequence[bytes]:
    """Return the stream in pieces: whole, byte by byte, or cut anywhere."""
    match random.randint(0, 3):
        case 0:
            return [stream]
        case 1 if len(stream) < 5_000:
            return [stream[at : at + 1] for at in range(len(stream))]
        case _:
            places = sorted(random.randint(0, len(stream)) for _ in range(random.randint(1, 40)))
            bounds = [0, *places, len(stream)]
            return [stream[start:end] for start, end in pairwise(bounds) if start < end]


def _event(random: Random) -> bytes:
    lines = _fields(random)
    for _ in range(random.randint(0, 3)):
        lines.insert(random.randint(0, len(lines)), _data(random))
    return _ended(random, lines or [b":"])


def _fields(random: Random) -> list[bytes]:
    known = [
        b"event: e",
        b"event:",
        b"id: 7",
        b"id",
        b"retry: 10",
        b": still here",
        b":",
        b"odd: 1",
    ]
    return random.sample(known, random.randint(0, 3))


def _data(random: Random) -> bytes:
    text = "".join(random.choices(_TEXTS, k=random.randint(0, 4)))
    match random.randint(0, 5):
        case 0:
            return b"data"
        case 1:
            return b"data:" + text.encode()
        case 2:
            return b"data: [DONE]"
        case 3 if random.random() < 0.2:
            return b"data: " + b"x" * random.randint(1, _HUGE_BYTES)
        case _:
            delta = {"choices": [{"index": 0, "delta": {"content": text}}], "usage": None}
            document = {"object": "chat.completion.chunk", **delta}
            return b"data: " + json.dumps(document, ensure_ascii=random.random() < 0.5).encode()


def _ended(random: Random, lines: list[bytes]) -> bytes:
    """End every line, and the event with an empty one; CR and LF in a row would be one end."""
    ends = [random.choice(_ENDS) for _ in lines]
    last = random.choice(_ENDS if ends[-1] != b"\r" else (b"\r", b"\r\n"))
    return b"".join(line + end for line, end in zip(lines, ends, strict=True)) + last
