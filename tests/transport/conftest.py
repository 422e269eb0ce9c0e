"""Every test of the transport runs on both loops."""

from __future__ import annotations

import pytest


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Return both loops: how a connection ends is told differently by each."""
    return "asyncio", {"use_uvloop": request.param}
