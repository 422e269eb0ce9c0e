"""A simulated resource for each test, on a live port, its clock standing still."""

from collections.abc import Iterator

import pytest

from gateway.simulator import LiveSimulator, SimulatorConfig
from tests.simulator.resource import Resource


@pytest.fixture
def azure() -> Iterator[Resource]:
    """Return a resource whose clock moves only when it is told to."""
    config = SimulatorConfig(wall_clock=False, run_s=10)
    with LiveSimulator(config) as live, Resource(live.url) as resource:
        yield resource
