"""Faults on demand: what goes wrong with the next request that matches, whatever its body is.

`POST /simulator/faults` lays an ambush:

    {"match": {"method": "POST", "path": "/openai/*"}, "skip": 0, "times": 1, "fault": {...}}

`path` is compared with the raw path, `*` and `?` standing for anything; what `match` leaves out
matches. The first `skip` requests that match pass, the next `times` are caught. A fault has a
`kind` and that kind's settings; each also takes `delay_s` (a wait before anything is sent) and
`work` (whether the operation is carried out before, by default true except as marked):

    status         status=500, retry_after, retry_after_ms     that status (work: false)
    redirect       location                                    307 to there (work: false)
    delay          delay_s                                     nothing else
    stall          before_head=false                           head, then silence until released
    close                                                      no answer, the connection ends
    reset          after_bytes=0                               head, N bytes of body, then RST
    cut            after_events=1                              a stream ends without its end
    informational  status=103                                  a 1xx before the real head
    framing        framing=length_too_long | length_too_short | chunk_garbage | length_and_chunked
    gzip                                                       the body compressed, asked or not
    huge_header    header_bytes=131072                         a header of that size
    extra          text=a whole response nobody asked for      bytes after the body's end
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from gateway.simulator.exchange import Received

AMBUSHES_MAX = 1000
COUNT_MAX = 1_000_000_000
PLANTED = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nplanted"


class Kind(StrEnum):
    """What goes wrong."""

    STATUS = "status"
    REDIRECT = "redirect"
    DELAY = "delay"
    STALL = "stall"
    CLOSE = "close"
    RESET = "reset"
    CUT = "cut"
    INFORMATIONAL = "informational"
    FRAMING = "framing"
    GZIP = "gzip"
    HUGE_HEADER = "huge_header"
    EXTRA = "extra"


class Framing(StrEnum):
    """How the length of a body is told wrongly."""

    LENGTH_TOO_LONG = "length_too_long"
    LENGTH_TOO_SHORT = "length_too_short"
    CHUNK_GARBAGE = "chunk_garbage"
    LENGTH_AND_CHUNKED = "length_and_chunked"


@dataclass(frozen=True, slots=True)
class Mishap:
    """One fault, with the settings of its kind; the rest keep their defaults."""

    kind: Kind
    work: bool = True
    delay_s: float = 0.0
    status: int = 500
    retry_after: int | None = None
    retry_after_ms: int | None = None
    location: str = ""
    before_head: bool = False
    after_bytes: int = 0
    after_events: int = 1
    framing: Framing = Framing.LENGTH_TOO_LONG
    header_bytes: int = 131_072
    text: str = PLANTED


@dataclass(slots=True)
class Ambush:
    """A fault and the requests it waits for."""

    method: str | None
    path: str
    skip: int
    times: int
    mishap: Mishap

    def meets(self, received: Received) -> bool:
        """Whether this request is one of those."""
        is_method = self.method is None or self.method == received.method
        return is_method and fnmatchcase(received.path, self.path)


@dataclass(slots=True)
class Ambushes:
    """All that lie in wait, the oldest first."""

    waiting: list[Ambush] = field(default_factory=list)

    def lay(self, body: object) -> None:
        """Add the ambush a control request describes.

        Raises:
            ValueError: it is not one; the message says why.
        """
        if len(self.waiting) >= AMBUSHES_MAX:
            raise ValueError(f"`{AMBUSHES_MAX}` faults are waiting already; reset the simulator")
        self.waiting.append(read_ambush(body))

    def take(self, received: Received) -> Mishap | None:
        """Return what is to go wrong with this request, or None."""
        for ambush in self.waiting:
            if not ambush.meets(received):
                continue
            if ambush.skip:
                ambush.skip -= 1
                continue
            ambush.times -= 1
            if not ambush.times:
                self.waiting.remove(ambush)
            return ambush.mishap
        return None


_SETTINGS: Mapping[Kind, frozenset[str]] = {
    Kind.STATUS: frozenset({"status", "retry_after", "retry_after_ms"}),
    Kind.REDIRECT: frozenset({"location"}),
    Kind.DELAY: frozenset(),
    Kind.STALL: frozenset({"before_head"}),
    Kind.CLOSE: frozenset(),
    Kind.RESET: frozenset({"after_bytes"}),
    Kind.CUT: frozenset({"after_events"}),
    Kind.INFORMATIONAL: frozenset({"status"}),
    Kind.FRAMING: frozenset({"framing"}),
    Kind.GZIP: frozenset(),
    Kind.HUGE_HEADER: frozenset({"header_bytes"}),
    Kind.EXTRA: frozenset({"text"}),
}


def read_ambush(body: object) -> Ambush:
    """Return what a control request describes.

    Raises:
        ValueError: it has an unknown name or a value out of range.
    """
    if not isinstance(body, dict) or not isinstance(body.get("fault"), dict):
        raise ValueError('send {"match": {...}, "times": 1, "fault": {"kind": ...}}')
    where = body.get("match", {})
    if not isinstance(where, dict) or set(where) - {"method", "path"} or set(body) - _NAMES:
        raise ValueError("an ambush has `match` (`method`, `path`), `skip`, `times` and `fault`")
    fault = dict(body["fault"])
    kind = Kind(fault.pop("kind", None))
    method, path = where.get("method"), where.get("path", "*")
    if not isinstance(path, str) or not isinstance(method, str | None):
        raise ValueError("`method` and `path` are texts")
    skip = _whole("skip", body.get("skip", 0), 0, COUNT_MAX)
    times = _whole("times", body.get("times", 1), 1, COUNT_MAX)
    return Ambush(method, path, skip, times, _read_mishap(kind, fault))


_NAMES = frozenset({"match", "skip", "times", "fault"})


def _read_mishap(kind: Kind, settings: Mapping[str, Any]) -> Mishap:
    allowed = _SETTINGS[kind] | {"work", "delay_s"}
    unknown = sorted(set(settings) - allowed)
    if unknown:
        raise ValueError(f"a fault of kind `{kind}` has no setting `{unknown[0]}`")
    if kind is Kind.REDIRECT and "location" not in settings:
        raise ValueError("a redirect needs a `location`")
    read = {
        name: _read_setting(kind, name, value) for name, value in settings.items() if name != "kind"
    }
    if kind in (Kind.STATUS, Kind.REDIRECT):
        read.setdefault("work", False)
    if kind is Kind.INFORMATIONAL:
        read.setdefault("status", 103)
    return Mishap(kind, **read)


def _read_setting(kind: Kind, name: str, value: Any) -> Any:
    match name:
        case "work" | "before_head":
            if not isinstance(value, bool):
                raise ValueError(f"`{name}` is true or false, not `{value}`")
            return value
        case "framing":
            return Framing(value)
        case "location" | "text":
            if not isinstance(value, str):
                raise ValueError(f"`{name}` is a text, not `{value}`")
            return value
        case "delay_s":
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ValueError(f"`delay_s` is a number of seconds, not `{value}`")
            return float(value)
        case "status":
            least, most = (102, 199) if kind is Kind.INFORMATIONAL else (400, 599)
            return _whole(name, value, least, most)
        case _:
            return _whole(name, value, 0, COUNT_MAX)


def _whole(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"`{name}` is a whole number from `{least}` to `{most}`, not `{value}`")
    return value
