"""The command that lists what the gateway serves and what it refuses."""

from __future__ import annotations

from typing import Annotated

import typer


def operations(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page docs/operations.md instead.")
    ] = False,
) -> None:
    """List every operation that is served, and those refused with the reason.

    \b
    Example:
      aoai-gateway operations --markdown > docs/operations.md
    """
    from gateway.documentation import operations_lines, operations_markdown

    if markdown:
        print(operations_markdown(), end="")
        return
    for line in operations_lines():
        print(line)
