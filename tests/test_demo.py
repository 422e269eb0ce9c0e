"""The demo as a user runs it: its story, its bill, its ports, and that it fails when it should."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gateway.demo import REFUSALS_TOLD, SESSIONS_TOLD, STORY
from gateway.demo.bill import Bill, Sessions, Tokens, differences
from gateway.demo.scene import StoryBroke, expect
from gateway.demo.stage import CALLERS_PORT, HOST, OPERATORS_PORT

DEADLINE_S = 90
DEMO = [sys.executable, "-m", "gateway.cli", "demo"]
# Makes the simulated Azure charge a nano-USD more for each token that gpt-4o writes.
DEARER = """
import dataclasses, sys
from gateway.demo import run_demo
from gateway.simulator import invoice
price = invoice.TOKEN_PRICES["gpt-4o"]
invoice.TOKEN_PRICES["gpt-4o"] = dataclasses.replace(price, output=price.output + 1)
sys.exit(run_demo(once=True))
"""


@dataclass(frozen=True)
class Told:
    """A demo that has ended: where it ran, what it printed, how it exited."""

    folder: Path
    text: str
    code: int


def run(command: list[str], folder: Path) -> Told:
    with pytest.MonkeyPatch.context() as environment:
        # What a developer's machine may have set, and what must not lead the story astray.
        environment.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        environment.setenv("AZURE_OPENAI_ENDPOINT", "http://127.0.0.1:9")
        environment.setenv("AZURE_OPENAI_AD_TOKEN", "somebody-elses")
        environment.setenv("AOAIGW_LISTEN_DATA", "127.0.0.1:9")
        ended = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
    return Told(folder, ended.stdout + ended.stderr, ended.returncode)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return run([*DEMO, "--once"], tmp_path_factory.mktemp("once"))


@dataclass(frozen=True)
class Served:
    """A demo that served beside busy ports until it got SIGINT."""

    told: Told
    health_status: int
    configs: tuple[str, ...]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with ExitStack() as stack:
        for port in (CALLERS_PORT, OPERATORS_PORT):
            # If it cannot be taken it is busy already, which serves as well.
            with suppress(OSError):
                stack.enter_context(socket.create_server((HOST, port)))
        demo = stack.enter_context(
            subprocess.Popen(DEMO, cwd=folder, stdout=subprocess.PIPE, text=True)
        )
        stack.callback(demo.kill)
        assert demo.stdout is not None
        lines: list[str] = []
        while not (lines and lines[-1].startswith("serving until Ctrl-C")):
            line = demo.stdout.readline()
            assert line, "".join(lines)
            lines.append(line)
        text = "".join(lines)
        status = health_status(text)
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=DEADLINE_S)
        told = Told(folder, text + rest, demo.returncode)
        yield Served(told, status, tuple(re.findall(r"--config (\S+)", text)))


def health_status(text: str) -> int:
    found = re.search(r"^health +http://(\S+?)(/\S+)$", text, re.MULTILINE)
    assert found is not None
    connection = http.client.HTTPConnection(found[1], timeout=10)
    connection.request("GET", found[2])
    status = connection.getresponse().status
    connection.close()
    return status


def test_the_demo_tells_its_story_and_exits_with_0(once: Told) -> None:
    assert once.code == 0, once.text
    for number, step in enumerate(STORY, start=1):
        assert f"\n{number:2}  {step.team} {step.title}\n" in once.text
    assert "Traceback" not in once.text
    assert "Warning" not in once.text


def test_the_bill_shows_each_teams_sessions_and_refusals(once: Told) -> None:
    for team, sessions in SESSIONS_TOLD.items():
        (row,) = re.findall(rf"^ *{team} +(\d+) +\d+ +\d+ +\d+ +(\d+) +0\.\d+", once.text, re.M)
        assert row == (str(sessions), str(REFUSALS_TOLD[team]))


def test_the_gateways_bill_is_the_simulated_azures_invoice(once: Told) -> None:
    (amounts,) = re.findall(
        r"^bill of the gateway \$(\S+) = invoice of the simulated Azure \$(\S+)$", once.text, re.M
    )
    assert amounts[0] == amounts[1]
    # Five sessions at USD 0.03, and some tokens.
    assert 0.15 < float(amounts[0]) < 0.17


def test_refusals_are_told_with_status_and_code(once: Told) -> None:
    for told in (
        "415 unsupported_file_type",
        "RateLimitError, 429 insufficient_quota",
        "(rule `analytics-day`)",
        "1 request reached the gateway",
        "NotFoundError, 404 not_found",
    ):
        assert told in once.text


def test_the_downloaded_picture_is_saved_as_a_png(once: Told) -> None:
    assert "saved to demo-out/my-image.png" in once.text
    picture = (once.folder / "demo-out" / "my-image.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.endswith(b"IEND\xaeB`\x82")


def test_a_log_has_no_colours_and_no_line_of_more_than_100_columns(once: Told) -> None:
    assert "\x1b" not in once.text
    assert max(len(line) for line in once.text.splitlines()) <= 100


def test_other_ports_are_taken_where_the_usual_ones_are_busy(served: Served) -> None:
    for port, who in ((CALLERS_PORT, "callers"), (OPERATORS_PORT, "operators")):
        note = rf"^port {port} is busy, {who} are served on (\d+) instead$"
        (other,) = re.findall(note, served.told.text, re.M)
        assert f"http://127.0.0.1:{other}" in served.told.text
        assert int(other) != port


def test_sigint_ends_a_demo_that_serves_with_0_and_leaves_nothing_behind(served: Served) -> None:
    assert served.health_status == 204
    assert served.told.code == 0
    assert served.told.text.endswith("serving until Ctrl-C\nstopped\n")
    assert served.configs
    assert not any(Path(config).parent.exists() for config in served.configs)


def test_the_demo_fails_if_the_invoice_differs_by_a_nano_usd_a_token(tmp_path: Path) -> None:
    told = run([sys.executable, "-c", DEARER], tmp_path)
    assert told.code == 1
    failed = told.text.rpartition("the demo failed: ")[2]
    assert re.fullmatch(r"bill `\$\S+`, invoice `\$\S+`\n", failed)
    assert "bill of the gateway $" not in told.text


BILL = Bill(
    sessions=Sessions({("thread", "thread_a"): 1}),
    tokens=Tokens({("gpt-4o", "input_tokens"): 5}),
    nano_usd=30_012_500,
)


@pytest.mark.parametrize(
    ("invoice", "difference"),
    [
        (replace(BILL, nano_usd=30_012_501), "bill `$0.0300125`, invoice `$0.030012501`"),
        (
            replace(BILL, sessions=Sessions({("thread", "thread_a"): 2})),
            "sessions of thread thread_a: bill `1`, invoice `2`",
        ),
        (
            replace(BILL, tokens=Counter()),
            "tokens of gpt-4o input_tokens: bill `5`, invoice `0`",
        ),
    ],
)
def test_every_difference_to_the_invoice_is_named(invoice: Bill, difference: str) -> None:
    assert list(differences(BILL, BILL)) == []
    assert list(differences(BILL, invoice)) == [difference]


def test_an_estimate_is_a_difference() -> None:
    bill = replace(BILL, estimates=2)
    assert list(differences(bill, BILL)) == ["2 lines of the bill are estimates"]


def test_what_is_not_as_told_breaks_the_story() -> None:
    expect(that="a sum", got=4, wanted=4)
    with pytest.raises(StoryBroke, match="a sum: expected `4`, got `5`"):
        expect(that="a sum", got=5, wanted=4)
