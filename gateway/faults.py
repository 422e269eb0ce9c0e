"""Faults in what a person wrote: settings, policies. All of them at once, each with its place.

A fault is one line: where it stands (``upstream[0].kind``), the value in backticks, what is
allowed. A value that may be a secret is never shown.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]

_SHOWN_CHARS_MAX = 64
_SECRET_KEYS = frozenset({"api_key", "key_pepper", "scrape_token", "url"})
_NOUNS = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_BOUNDS = {
    "greater_than": ("gt", "is not more than"),
    "greater_than_equal": ("ge", "is less than"),
    "less_than": ("lt", "is not less than"),
    "less_than_equal": ("le", "is more than"),
}


class SettingsFaults(Exception):
    """Everything that is wrong with a configuration, one line each in `faults`."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))


def dotted(location: Sequence[str | int]) -> str:
    """Return a place in a TOML document as people write it: ``upstream[0].kind``."""
    words = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(words).removeprefix(".")


def hint(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean `x`" if a known word is near, else nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"; did you mean `{near[0]}`" if near else ""


def listed(words: Iterable[str]) -> str:
    """Return words in backticks, separated by commas."""
    return ", ".join(f"`{word}`" for word in words)


def read_toml(path: Path) -> dict[str, object]:
    """Return a TOML file as it stands.

    Raises:
        SettingsFaults: the file cannot be read, is not UTF-8 or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise SettingsFaults([f"cannot be read: {reason}"]) from None
    except UnicodeDecodeError:
        raise SettingsFaults(["not valid TOML: it must be UTF-8"]) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsFaults([f"not valid TOML: {_uncapitalised(str(error))}"]) from None


def sentences(
    error: ValidationError,
    model: type[BaseModel],
    place: Callable[[Location], str] = dotted,
) -> list[str]:
    """Return one line for each fault that pydantic found; `place` names a location."""
    return [
        f"{place(detail['loc'])}: {_sentence(detail, model)}"
        for detail in error.errors(include_url=False)
    ]


def _sentence(detail: ErrorDetails, model: type[BaseModel]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    shown = _shown(detail["loc"], detail["input"])
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        known = sorted(_fields_at(model, detail["loc"][:-1]))
        return f"unknown key{hint(str(detail['loc'][-1]), known)}; allowed: {listed(known)}"
    if kind in ("literal_error", "enum"):
        allowed = [word.strip("'") for word in re.split(", | or ", context["expected"])]
        return f"{shown} is not one of {listed(allowed)}"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{shown} {words} `{context[name]}`"
    if kind in _NOUNS:
        return f"{shown} is not {_NOUNS[kind]}"
    return f"{shown}: {_uncapitalised(detail['msg'])}"


def _shown(location: Location, value: object) -> str:
    if any(part in _SECRET_KEYS for part in location):
        return "the value"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return f"`{str(value)[:_SHOWN_CHARS_MAX]}`"


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """Return the keys allowed at a location, following tables and lists of tables."""
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        nested = [annotation, *get_args(annotation)]
        model = next(
            kind for kind in nested if isinstance(kind, type) and issubclass(kind, BaseModel)
        )
    return list(model.model_fields)


def _uncapitalised(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")
