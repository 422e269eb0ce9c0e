"""The commands that write and check what a person configures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.common import DEFAULT_CONFIG, Failure


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write to.")],
) -> None:
    """Write a starter gateway.toml and the policies into a folder.

    Nothing is overwritten: if one of the files is there, none is written.

    \b
    Example:
      aoai-gateway init my-gateway
    """
    from gateway.starter import WouldOverwrite, write_starter

    try:
        written = write_starter(folder)
    except WouldOverwrite as error:
        raise Failure(str(error)) from error
    for path in written:
        print(path)


def config_check(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="The file to check; gateway.toml if there is one."),
    ] = None,
) -> None:
    """Check a gateway.toml with its policies; print every fault.

    The environment is checked too, and alone where there is no file, as `serve` would.

    \b
    Example:
      aoai-gateway config check gateway.toml
    """
    from gateway.app import make_rules
    from gateway.faults import SettingsFaults
    from gateway.policies import load_policies
    from gateway.settings import load_settings

    faults: list[str] = []
    settings = None
    path = file or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)
    try:
        settings = load_settings(path, os.environ)
    except SettingsFaults as found:
        where = f"{path.name}: " if path is not None else ""
        faults += [f"{where}{fault}" for fault in found.faults]
    if settings is not None:
        try:
            teams = [team.id for team in settings.teams]
            make_rules(settings, load_policies(settings.policies_dir, teams=teams))
        except SettingsFaults as found:
            faults += found.faults
    if settings is None or faults:
        raise SettingsFaults(faults)
    print(
        f"ok: {len(settings.upstreams)} upstreams, {len(settings.deployments)} deployments, "
        f"{len(settings.teams)} teams, policies in {settings.policies_dir or 'the package'}"
    )


def config_schema() -> None:
    """Print the JSON schema of gateway.toml.

    Editors use it to check and complete while you type.

    \b
    Example:
      aoai-gateway config schema > gateway.schema.json
    """
    import json

    from gateway.settings import settings_schema

    print(json.dumps(settings_schema(), indent=2))
