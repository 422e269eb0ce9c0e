"""The commands that read the ledger; a gateway may be running meanwhile."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from gateway.cli.common import FAULTY, ConfigOption, Failure, open_report


def sessions(
    team: Annotated[str | None, typer.Option(metavar="ID", help="Only this team's.")] = None,
    config: ConfigOption = None,
) -> None:
    """List the code-interpreter sessions and what they cost.

    \b
    Example:
      aoai-gateway sessions --team blue
    """
    from gateway.reports import sessions_report

    with open_report(config) as reader:
        print(sessions_report(reader.sessions(team=team)), end="")


def spend(
    by: Annotated[Literal["team", "day", "meter"], typer.Option(help="What to sum up by.")],
    since: Annotated[
        str | None, typer.Option(metavar="DAY", help="From this day (UTC) on, such as 2026-11-01.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="DAY", help="Up to and without this day (UTC).")
    ] = None,
    form: Annotated[Literal["table", "json", "csv"], typer.Option("--format")] = "table",
    config: ConfigOption = None,
) -> None:
    """Sum up what was spent, by team, day or meter.

    A correction counts on the day of what it corrects.

    \b
    Example:
      aoai-gateway spend --by team --since 2026-11-01 --until 2026-12-01 --format csv
    """
    from gateway.reports import day_start, spend_report

    try:
        first = 0 if since is None else day_start(since)
        end = 2**63 - 1 if until is None else day_start(until)
    except ValueError as error:
        raise Failure(str(error), FAULTY) from error
    with open_report(config) as reader:
        rows = reader.spend(by, since=first, until=end)
        print(spend_report(rows, by=by, form=form), end="")


def ledger(
    form: Annotated[Literal["jsonl"], typer.Option("--format")] = "jsonl",
    after: Annotated[
        int, typer.Option(min=0, metavar="N", help="Only postings with a higher number.")
    ] = 0,
    config: ConfigOption = None,
) -> None:
    """Print every posting of the ledger, a JSON line each.

    Oldest first. A reader that stopped goes on with --after and the highest `posting` it read.

    \b
    Example:
      aoai-gateway ledger --format jsonl --after 1200
    """
    from gateway.reports import ledger_line

    with open_report(config) as reader:
        for row in reader.ledger(after=after):
            print(ledger_line(row))
