"""The command `aoai-gateway`.

Exit codes: 0 done, 1 the operation failed, 2 the command line or the configuration is at fault.
What is asked for goes to standard output, everything said about it to standard error, one fault a
line. Heavy modules are imported by the command that needs them, so that `--help` is quick.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

import gateway
from gateway.cli import configuring, keys, listing, reporting, running
from gateway.cli.common import FAILED, FAULTY, Failure

app = typer.Typer(
    name="aoai-gateway",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
config_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
keys_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

app.command()(running.serve)
app.command()(running.demo)
app.command()(running.simulator)
app.command()(configuring.init)
app.add_typer(config_app, name="config")
config_app.command("check")(configuring.config_check)
config_app.command("schema")(configuring.config_schema)
app.add_typer(keys_app, name="keys")
keys_app.command("issue")(keys.keys_issue)
keys_app.command("list")(keys.keys_list)
keys_app.command("revoke")(keys.keys_revoke)
app.command()(reporting.sessions)
app.command()(reporting.spend)
app.command()(reporting.ledger)
app.command()(listing.operations)


def main(argv: list[str] | None = None) -> NoReturn:
    """Run a command and exit; a foreseeable failure is one line, never a stack trace."""
    from gateway.faults import SettingsFaults
    from gateway.ports import StoreUnavailable
    from gateway.stores import StoreBusy

    try:
        try:
            app(args=argv, prog_name="aoai-gateway")
        finally:
            # What is still buffered would otherwise fail only after the last door.
            sys.stdout.flush()
    except SettingsFaults as faults:
        _exit(faults.faults, FAULTY)
    except Failure as failure:
        _exit([str(failure)], failure.code)
    except (StoreBusy, StoreUnavailable) as error:
        _exit([str(error)], FAILED)
    except BrokenPipeError:
        # The reader of our output has seen enough. What is left of it must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except OSError as error:
        _exit([_os_error(error)], FAILED)
    sys.exit(0)


def _exit(lines: list[str], code: int) -> NoReturn:
    for line in lines:
        print(f"aoai-gateway: {line}", file=sys.stderr)
    sys.exit(code)


def _os_error(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    where = f"`{error.filename}`: " if error.filename else ""
    return where + error.strerror.lower()


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"aoai-gateway {gateway.__version__}")
        raise typer.Exit


@app.callback()
def _everything(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """One endpoint for a whole organisation in front of Azure OpenAI.

    It checks uploads, counts code-interpreter sessions and tokens, and stops spending before the
    money is gone.

    \b
    Example, to see it work without an Azure account:
      aoai-gateway demo
    """


@config_app.callback()
def _config() -> None:
    """Check gateway.toml and the policies, or print its schema.

    \b
    Example:
      aoai-gateway config check gateway.toml
    """


@keys_app.callback()
def _keys() -> None:
    """Issue, list and revoke the keys that teams call with.

    \b
    Example:
      aoai-gateway keys issue --team blue
    """
