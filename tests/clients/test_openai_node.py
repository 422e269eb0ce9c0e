"""The openai SDK for Node: both of its clients."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.clients.playing import (
    REFUSED_TWICE_AND_GONE,
    ROOT,
    Steps,
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
from tests.street.living import Street

pytestmark = pytest.mark.anyio

FOLDER = ROOT / "tests" / "clients" / "node"


async def _play(street: Street, kind: str) -> Steps:
    node = shutil.which("node")
    needs_real("node", found=node is not None, how="apt-get install nodejs npm")
    packages = FOLDER.relative_to(ROOT) / "node_modules"
    has_packages = (ROOT / packages / "openai").exists()
    needs_real("openai for node", found=has_packages, how=f"make {packages}/.installed")
    story = FOLDER / "story.mjs"
    steps = await play(street, [str(node), story, kind, street.url, street.keys["blue"]])
    pinned = json.loads((FOLDER / "package.json").read_text())["dependencies"]["openai"]
    assert steps["client"]["version"] == pinned
    return steps


async def test_azure_openai_plays_the_assistants_story(tmp_path: Path) -> None:
    async with street_with_one_session(tmp_path) as street:
        steps = await _play(street, "azure")

        assert steps["refused upload"]["error"] == "APIError"
        saw_an_upload(steps)
        saw_assistants(steps)
        saw_deletions(steps, 3)
        saw_the_cap(steps)
        saw_chat(steps)
        saw_responses(steps)
        await saw_the_same_file(street, steps)
        await went_well(street, sessions=1, refusals=REFUSED_TWICE_AND_GONE)


async def test_openai_plays_the_story_of_containers(tmp_path: Path) -> None:
    async with street_with_one_session(tmp_path) as street:
        steps = await _play(street, "v1")

        assert steps["refused upload"]["error"] == "APIError"
        saw_an_upload(steps)
        saw_containers(steps)
        saw_deletions(steps, 1)
        saw_the_cap(steps)
        saw_chat(steps)
        saw_responses(steps)
        await saw_the_same_file(street, steps)
        await went_well(street, sessions=1, refusals=REFUSED_TWICE_AND_GONE)


def test_the_lock_has_a_hash_for_every_package_and_no_address() -> None:
    lock = json.loads((FOLDER / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert [name for name, entry in packages.items() if "resolved" in entry] == []
    assert "://" not in (FOLDER / "package-lock.json").read_text()
