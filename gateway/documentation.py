"""The list of operations as people read it: what is served, and what is refused and why.

It is written from the tables that the street itself decides by, so it cannot say anything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from gateway.core.catalogue import CATALOGUE
from gateway.core.model import Surface
from gateway.core.operations import OWNED_PLACEHOLDERS, Operation
from gateway.core.refused import REFUSED_OPERATIONS, RefusedOperation

_NONE = "–"
_HEADINGS = {
    Surface.DATED: "The dated surface, `/openai/...?api-version=`",
    Surface.V1: "The v1 surface, `/openai/v1/...`",
    Surface.FOUNDRY: "Foundry projects, `/api/projects/...`",
}
_OPENING = """\
# Operations

Written by `aoai-gateway operations --markdown`; the tests hold this page equal to what it prints.

Every request finds one row here or is refused: `404 unknown_operation` where no row has the path,
`405 method_not_allowed` where one has it with another method. `api-version` may stand in every
query; any other parameter that is not listed is refused.

An **owned id** belongs to the team that made the object, as does all that lives inside it; to any
other team it does not exist. What a row makes is entered as the team's, what it deletes is struck
out, and a list shows the team's own objects only. Ids in bodies are held to the same rule.
"""
_REFUSED_OPENING = """\
## Refused

What Azure or an SDK knows and this gateway does not pass on. `/*` stands for the path itself and
everything below it; the first row that fits is the one whose reason is given.
"""


def operations_markdown() -> str:
    """Return the whole page, ending with a newline."""
    parts = [_OPENING]
    for surface, heading in _HEADINGS.items():
        rows = [row for row in CATALOGUE if row.surface is surface]
        if rows:
            parts.append(f"## {heading}\n\n{_table(_SERVED, map(_served, rows))}")
    parts.append(f"{_REFUSED_OPENING}\n{_table(_REFUSED, map(_refused, REFUSED_OPERATIONS))}")
    return "\n".join(parts)


def operations_lines() -> Iterator[str]:
    """Yield a line for each operation that is served, then one for each that is refused."""
    for row in CATALOGUE:
        yield f"served   {row.method:<7} {row.template}  ({row.name})"
    for refused in REFUSED_OPERATIONS:
        methods = ",".join(sorted(refused.methods)) or "any"
        for path in refused.paths:
            yield f"refused  {methods:<7} {path}  ({refused.reason})"


_SERVED = ("operation", "method", "path", "billed", "body", "reply", "owned ids", "effect", "query")
_REFUSED = ("what", "methods", "paths", "why", "instead")


def _served(row: Operation) -> tuple[str, ...]:
    placeholders = re.findall(r"\{(\w+)\}", row.template)
    effects = (("makes", row.creates), ("deletes", row.deletes), ("lists", row.lists))
    return (
        row.name,
        row.method,
        f"`{row.template}`",
        row.bills.value,
        row.body.value,
        row.reply.value,
        _all(name for name in placeholders if name in OWNED_PLACEHOLDERS),
        _all(f"{verb} {kind.value}" for verb, kind in effects if kind is not None),
        _all(f"`{name}`" for name in sorted(row.query)),
    )


def _refused(row: RefusedOperation) -> tuple[str, ...]:
    paths = "<br>".join(f"`{path}`" for path in row.paths)
    methods = ", ".join(sorted(row.methods)) or "any"
    return (row.what, methods, paths, row.why.value, row.instead)


def _all(words: Iterable[str]) -> str:
    return ", ".join(words) or _NONE


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
