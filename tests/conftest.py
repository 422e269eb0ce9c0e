"""What every test shares: the event loop, hypothesis's settings, and how a missing part is told.

A *real part* is a program that Python's packages cannot bring, such as ``promtool`` or a browser.
Where one is missing the test is left out and the run says so at its end. With ``REQUIRE_ALL=1``
in the environment, as in CI, the test fails instead: there every part must be real.
"""

from __future__ import annotations

import os
import re
from collections import Counter

import hypothesis
import pytest

_REASON = "for want of {name} ({how})"
_REASON_SEEN = re.compile(r"for want of (?P<name>.+?) \((?P<how>.+)\)$", re.DOTALL)

hypothesis.settings.register_profile(
    "gateway", deadline=None, derandomize="CI" in os.environ, print_blob=True
)
hypothesis.settings.load_profile("gateway")


def needs_real(name: str, *, found: bool, how: str) -> None:
    """Return if the real part ``name`` was ``found``; else leave the calling test out.

    ``how`` is the way to get it, such as ``apt-get install prometheus``. It works in a fixture of
    any scope too; each test that needed the fixture is then left out and counted.

    Raises:
        Failed: the part is missing and ``REQUIRE_ALL=1``.
        Skipped: the part is missing otherwise.
    """
    if found:
        return
    reason = _REASON.format(name=name, how=how)
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"not run {reason}, and REQUIRE_ALL=1", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Return the only loop the gateway runs on; of session scope so that any fixture may wait."""
    return "asyncio"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write one line for each real part that was missing, with what it cost and how to get it."""
    left_out: Counter[tuple[str, str]] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        # Under xdist a report comes from another process: its words are all that is left of it.
        seen = _REASON_SEEN.search(str(report.longrepr[2]))
        if seen is not None:
            left_out[seen["name"], seen["how"]] += 1
    if left_out:
        terminalreporter.section("left out", sep="-")
    for (name, how), tests in sorted(left_out.items()):
        noun = "test" if tests == 1 else "tests"
        terminalreporter.write_line(f"left out for want of {name}: {tests} {noun} ({how})")
