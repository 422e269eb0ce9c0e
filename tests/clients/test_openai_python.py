"""The openai SDK for Python: today's, and the one of the first Assistants."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.clients.playing import (
    REFUSED_TWICE_AND_GONE,
    ROOT,
    play,
    saw_an_upload,
    saw_assistants,
    saw_chat,
    saw_containers,
    saw_deletions,
    saw_responses,
    saw_the_cap,
    saw_the_same_file,
    street_with_one_session,
    went_well,
)
from tests.conftest import needs_real

pytestmark = pytest.mark.anyio

TODAY = [sys.executable, "-m", "tests.clients.programs.openai_python"]
OLD_CLIENT = Path(".venv", "openai-1.20")


@pytest.mark.parametrize("kind", ["azure", "azure-async"])
async def test_azure_openai_plays_the_assistants_story(tmp_path: Path, kind: str) -> None:
    async with street_with_one_session(tmp_path) as street:
        steps = await play(street, [*TODAY, kind, street.url, street.keys["blue"]])

        assert steps["client"]["version"] == version("openai")
        assert steps["refused upload"]["error"] == "APIStatusError"
        saw_an_upload(steps)
        saw_assistants(steps)
        saw_deletions(steps, 3)
        saw_the_cap(steps)
        saw_chat(steps)
        saw_responses(steps)
        await saw_the_same_file(street, steps)
        await went_well(street, sessions=1, refusals=REFUSED_TWICE_AND_GONE)


@pytest.mark.parametrize("kind", ["v1", "v1-async"])
async def test_openai_plays_the_story_of_containers(tmp_path: Path, kind: str) -> None:
    async with street_with_one_session(tmp_path) as street:
        steps = await play(street, [*TODAY, kind, street.url, street.keys["blue"]])

        assert steps["refused upload"]["error"] == "APIStatusError"
        saw_an_upload(steps)
        saw_containers(steps)
        saw_deletions(steps, 1)
        saw_the_cap(steps)
        saw_chat(steps)
        saw_responses(steps)
        await saw_the_same_file(street, steps)
        await went_well(street, sessions=1, refusals=REFUSED_TWICE_AND_GONE)


async def test_openai_1_20_plays_the_story_of_the_first_assistants(tmp_path: Path) -> None:
    python = ROOT / OLD_CLIENT / "bin" / "python"
    needs_real("openai-python 1.20", found=python.exists(), how=f"make {OLD_CLIENT}/.installed")
    command = [str(python), "-m", "tests.clients.programs.openai_1_20", "azure"]
    async with street_with_one_session(tmp_path) as street:
        steps = await play(street, [*command, street.url, street.keys["blue"]])

        assert steps["client"]["version"] == "1.20.0"
        assert steps["assistant's files"]["ids"] == [steps["upload"]["id"]]
        assert steps["refused upload"]["error"] == "APIStatusError"
        saw_an_upload(steps)
        saw_assistants(steps)
        saw_deletions(steps, 3)
        saw_the_cap(steps)
        saw_chat(steps)
        await saw_the_same_file(street, steps)
        await went_well(street, sessions=1, refusals=REFUSED_TWICE_AND_GONE)
