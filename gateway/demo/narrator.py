"""The narrator: prints the story as it happens, fit for a terminal and for a log."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.core.model import Meter
from gateway.core.rating import show_usd
from gateway.demo.bill import Bill
from gateway.demo.scene import Step
from gateway.demo.stage import ANALYTICS_SESSIONS_PER_DAY, Stage
from gateway.policies import shipped_policies

_LOG_COLUMNS: Final = 100
_COLUMNS_MIN: Final = 40
_TABLE_COLUMNS: Final = 76
_BAR_COLUMNS: Final = 8
_INDENT: Final = " " * 4


class Narrator:
    """Tells the story on standard output; a log gets lines of 100 columns."""

    def __init__(self) -> None:
        width = None if sys.stdout.isatty() else _LOG_COLUMNS
        self._console = Console(width=width, highlight=False, markup=False, emoji=False)

    def open(self, stage: Stage) -> None:
        """Say what is where before it begins."""
        self._say("aoai-gateway demo", style="bold")
        for note in stage.notes:
            self._say(note, style="yellow")
        self._say(f"simulated Azure at {stage.azure_url}, gateway at {stage.url}")
        self._say(
            f"policy: team analytics may open {ANALYTICS_SESSIONS_PER_DAY} code-interpreter "
            "sessions a day, USD 0.03 each"
        )

    def step(self, number: int, step: Step) -> None:
        """Say what a developer is about to do."""
        title = Text(f"\n{number:2}  {step.team} ", style="bold cyan")
        title.append(step.title, style="bold default")
        self._console.print(title)
        self._indented(step.code, style="dim")

    def came_back(self, line: str) -> None:
        """Say what came back."""
        self._indented(line)

    def bill(self, bill: Bill, refusals: Mapping[str, int]) -> None:
        """Print the bill as a table, one line for each team."""
        table = Table(
            title="the bill",
            title_justify="left",
            title_style="bold",
            box=None,
            pad_edge=False,
            width=_TABLE_COLUMNS,
        )
        for head in ("team", "sessions", "tokens in", "cached", "out", "refusals", "USD"):
            table.add_column(head, justify="left" if head == "team" else "right", no_wrap=True)
        table.add_column("", no_wrap=True)
        most = max((line.nano_usd for line in bill.teams.values()), default=0)
        for team, line in sorted(bill.teams.items()):
            bar = self._block * max(1, _BAR_COLUMNS * line.nano_usd // max(1, most))
            table.add_row(
                team,
                str(line.counts[Meter.CODE_INTERPRETER_SESSION]),
                str(line.counts[Meter.INPUT_TOKENS]),
                str(line.counts[Meter.CACHED_INPUT_TOKENS]),
                str(line.counts[Meter.OUTPUT_TOKENS]),
                str(refusals.get(team, 0)),
                show_usd(line.nano_usd),
                Text(bar, style="cyan"),
            )
        self._console.print()
        # Figures are never cut, however narrow the terminal is.
        self._console.print(table, width=_TABLE_COLUMNS, crop=False, soft_wrap=True)

    def agreed(self, bill: Bill, invoice: Bill) -> None:
        """Say that both sides came to the same, and to what."""
        self._say(
            f"\nbill of the gateway ${show_usd(bill.nano_usd)} = "
            f"invoice of the simulated Azure ${show_usd(invoice.nano_usd)}",
            style="bold green",
        )
        self._say(
            f"{bill.sessions.total()} sessions and {bill.tokens.total()} tokens agree one by one; "
            "nothing is estimated"
        )

    def failed(self, reason: str) -> None:
        """Say why the demo fails."""
        self._say(f"\nthe demo failed: {reason}", style="bold red")

    def places(self, stage: Stage) -> None:
        """Say where metrics, health, invoice and dashboards are."""
        self._console.print()
        for line in (
            f"metrics     {stage.admin_url}/metrics",
            f"health      {stage.admin_url}/health/ready",
            f"invoice     {stage.azure_url}/simulator/invoice",
            f"dashboards  {_dashboards()}",
        ):
            self._say(line)

    def serving(self, stage: Stage) -> None:
        """Say how to try it, while it serves."""
        command = _command()
        lines = (
            "try it, as team research:",
            f"  export AZURE_OPENAI_ENDPOINT={stage.url}",
            f"  export AZURE_OPENAI_API_KEY={stage.keys['research']}",
            '  curl -H "api-key: $AZURE_OPENAI_API_KEY" $AZURE_OPENAI_ENDPOINT/gateway/v1/me',
            f"  {command} sessions --config {stage.config}",
            f"  {command} keys issue --team analytics --config {stage.config}",
            "",
            "serving until Ctrl-C",
        )
        self._console.print()
        for line in lines:
            self._say(line)

    def ended(self) -> None:
        """Say that it stays with the bill."""
        self._say("\nwithout `--once` it keeps serving, to be tried")

    def stopped(self) -> None:
        """Say that everything was stopped in order."""
        self._say("stopped")

    @property
    def _block(self) -> str:
        return "#" if self._console.options.ascii_only else "█"

    def _say(self, line: str, style: str = "") -> None:
        """Print a line that is never broken: it may be searched for, or copied."""
        self._console.print(line, style=style, soft_wrap=True)

    def _indented(self, line: str, style: str = "") -> None:
        """Print a line below a step's title. (rich would fill the lines of a log with blanks.)"""
        columns = max(_COLUMNS_MIN, self._console.width - len(_INDENT))
        wrapped = textwrap.wrap(line, columns, break_on_hyphens=False)
        for part in wrapped:
            self._say(_INDENT + part, style)


def _dashboards() -> Path:
    """Return where the dashboards lie: beside the policies, in a wheel or in a checkout."""
    policies = shipped_policies()
    return policies.with_name(policies.name.replace("policies", "dashboards")) / "gateway.json"


def _command() -> str:
    """Return how this program is called from the working directory."""
    installed = Path(sys.executable).with_name("aoai-gateway")
    if not installed.exists():
        return f"{sys.executable} -m gateway.cli"
    here = Path.cwd()
    return str(installed.relative_to(here) if installed.is_relative_to(here) else installed)
