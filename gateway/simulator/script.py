"""What a request asks the simulator to act out.

The last user message, or a response's input, may hold `[[sim key=value ...]]`:

    calls=N               code interpreter calls, if the tool is enabled (0: none although enabled)
    outputs=none|logs|image   what each of those calls returns
    fail=1                the run or response fails after its calls, with usage
    run_s=X               how long the run takes on the simulator's clock; a streamed run takes no
                          time unless it says so, and then its events come when they are due
    tokens=IN/CACHED/OUT  usage as the wire shows it: IN includes the CACHED ones
    function=NAME         call this function first, if it is enabled
    words=N               length of the answer; a streamed answer has N chunks
    cut=N                 drop the connection after N streamed events (a plain answer: half way)
    status=429|500        answer this status; with after=1, do the work first
    delay_s=X             wait (on the wall's clock) before the first byte

Without one, code interpreter is called once and draws if the text speaks of a picture, is called
once and prints if the text wants something computed, and is not called otherwise.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.simulator.errors import backend
from gateway.simulator.usage import Usage, count_tokens

CALLS_MAX = 100
WORDS_MAX = 100_000
WORDS_DEFAULT = 12
SECONDS_MAX = 86_400.0

_DIRECTIVE = re.compile(r"\[\[sim\s([^\]]*)\]\]")
_DRAWS = re.compile(r"plot|draw|picture|chart|diagram", re.IGNORECASE)
_COMPUTES = re.compile(r"solve|calculate|compute", re.IGNORECASE)
_ANSWER = "Here is the answer, worked out step by step and checked twice."


class Outputs(StrEnum):
    """What one code interpreter call returns."""

    NONE = "none"
    LOGS = "logs"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class Script:
    """One directive, read; None means that the request did not say."""

    calls: int | None = None
    outputs: Outputs | None = None
    fail: bool = False
    run_s: float | None = None
    tokens: Usage | None = None
    function: str | None = None
    words: int | None = None
    cut: int | None = None
    status: int | None = None
    after: bool = False
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run or response is going to do."""

    calls: int
    outputs: Outputs
    function: str | None
    fail: bool
    truncated: bool
    words: list[str] = field(repr=False)
    usage: Usage


def read_script(text: str) -> Script:
    """Return the directive in `text`, or one that says nothing.

    Raises:
        Fault: the directive has an unknown key or a value out of range.
    """
    found = _DIRECTIVE.search(text)
    if found is None:
        return Script()
    said: dict[str, Any] = {}
    for word in found[1].split():
        key, _, value = word.partition("=")
        reader = _READERS.get(key)
        if reader is None:
            raise _bad(word)
        try:
            said[key] = reader(value)
        except ValueError:
            raise _bad(word) from None
    return Script(**said)


def plan_work(
    script: Script,
    *,
    text: str,
    texts: list[str],
    tools: list[dict[str, Any]],
    tool_choice: object = "auto",
    output_tokens_max: int | None = None,
) -> Plan:
    """Return what to do: `text` decides, `texts` is all the input that is counted as tokens."""
    kinds = [tool.get("type") for tool in tools]
    enabled = "code_interpreter" in kinds and tool_choice != "none"
    forced = tool_choice == "required" and kinds == ["code_interpreter"]
    if isinstance(tool_choice, Mapping):
        forced = tool_choice.get("type") == "code_interpreter"
        enabled = enabled and forced
    asked = _calls_of(script, text, forced=forced) if enabled else 0
    names = [_function_name(tool) for tool in tools if tool.get("type") == "function"]
    length = WORDS_DEFAULT if script.words is None else script.words
    truncated = output_tokens_max is not None and length > output_tokens_max
    if truncated and output_tokens_max is not None:
        length = output_tokens_max
    words = answer_words(length)
    default = Usage(count_tokens(texts), 0, length)
    return Plan(
        calls=asked,
        outputs=script.outputs or (Outputs.IMAGE if _DRAWS.search(text) else Outputs.LOGS),
        function=script.function if script.function in names else None,
        fail=script.fail,
        truncated=truncated,
        words=words,
        usage=script.tokens or default,
    )


def answer_words(length: int) -> list[str]:
    """Return the chunks of an answer of `length` words; joined they are its text."""
    vocabulary = _ANSWER.split()
    pick = [vocabulary[index % len(vocabulary)] for index in range(length)]
    return [word if index == 0 else f" {word}" for index, word in enumerate(pick)]


def _calls_of(script: Script, text: str, *, forced: bool) -> int:
    if script.calls is not None:
        return script.calls
    return 1 if forced or _DRAWS.search(text) or _COMPUTES.search(text) else 0


def _function_name(tool: Mapping[str, Any]) -> str:
    """Return a function tool's name; Responses has it flat, the other surfaces nested."""
    inner = tool.get("function")
    return str((inner if isinstance(inner, Mapping) else tool).get("name"))


def _bad(word: str) -> Exception:
    return backend(f"the simulator does not know the directive '{word}'", code="bad_directive")


def _whole(most: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        number = int(value)
        if not 0 <= number <= most:
            raise ValueError(value)
        return number

    return read


def _seconds(value: str) -> float:
    number = float(value)
    if not 0 <= number <= SECONDS_MAX:
        raise ValueError(value)
    return number


def _flag(value: str) -> bool:
    return bool(_whole(1)(value))


def _tokens(value: str) -> Usage:
    prompt, cached, completion = (int(part) for part in value.split("/"))
    if not 0 <= cached <= prompt or completion < 0:
        raise ValueError(value)
    return Usage(prompt, cached, completion)


def _status(value: str) -> int:
    number = int(value)
    if number not in (400, 429, 500, 502, 503, 504):
        raise ValueError(value)
    return number


_READERS: Mapping[str, Callable[[str], object]] = {
    "calls": _whole(CALLS_MAX),
    "outputs": Outputs,
    "fail": _flag,
    "run_s": _seconds,
    "tokens": _tokens,
    "function": str,
    "words": _whole(WORDS_MAX),
    "cut": _whole(WORDS_MAX),
    "status": _status,
    "after": _flag,
    "delay_s": _seconds,
}
