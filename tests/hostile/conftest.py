"""One street for each file of attacks: what is refused leaves no trace for the next."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.hostile.wall import FILE, KEY, RED_FILE, RED_KEY, Wall
from tests.street.living import living


@pytest.fixture(scope="module")
async def wall(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wall]:
    """Return a running street where each team owns a file."""
    async with living(tmp_path_factory.mktemp("wall")) as street:
        files = [(await street.upload(team=team)).json()["id"] for team in ("blue", "red")]
        names = {
            KEY: street.keys["blue"].encode(),
            RED_KEY: street.keys["red"].encode(),
            FILE: files[0].encode(),
            RED_FILE: files[1].encode(),
        }
        yield Wall(street, names)
