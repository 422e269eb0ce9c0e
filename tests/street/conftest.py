"""A street for each story: `street` with no caps, `open_street` for stories that need their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.street.living import Street, living

Opener = Callable[..., AbstractAsyncContextManager[Street]]


@pytest.fixture
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    """Return a running street without caps."""
    async with living(tmp_path) as opened:
        yield opened


@pytest.fixture
def open_street(tmp_path: Path) -> Opener:
    """Return what opens a street in this test's folder, with what `living` takes."""

    def opened(**how: Any) -> AbstractAsyncContextManager[Street]:
        return living(tmp_path, **how)

    return opened
