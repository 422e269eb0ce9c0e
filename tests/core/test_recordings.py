"""Recorded exchanges: what the meters hear of them, in any cutting, held against literal numbers.

Ours are made up, with the structure of the real ones: a poller who reads one step a page, newest
first, and is told `has_more`; a run that asks for a function first and fails in its call; words
before a call; two calls in one container. Whoever has recordings of the real thing names their
folder in `RECORDINGS_DIR`; each of its files is then replayed as well.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.metering import Document, Meter
from gateway.core.model import SECOND, ObjectKind, Usage

OWN = Path(__file__).parents[1] / "recordings"
T = 1_795_500_000
Call = tuple[str, str, int]


def _named_folder() -> list[Path]:
    """Return the files of the folder that the environment names, none if it names none.

    Raises:
        NotADirectoryError: it names what is no folder.
    """
    name = os.environ.get("RECORDINGS_DIR")  # noqa: TID251
    if name is None:
        return []
    if not Path(name).is_dir():
        raise NotADirectoryError(f"RECORDINGS_DIR names `{name}`, which is no folder")
    return sorted(Path(name).glob("*.jsonl"))


def _exchanges(path: Path) -> Iterator[Document]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def _replay(exchange: Document, *, chunk_bytes: int) -> Meter:
    body = base64.b64decode(str(exchange["body_b64"]))
    meter = Meter(is_stream=body.startswith((b"event:", b"data:")))
    for start in range(0, len(body), chunk_bytes):
        meter.feed(body[start : start + chunk_bytes])
    meter.finish()
    return meter


def _documents(text: str) -> Iterator[Document]:
    """Yield the JSON objects of a body, found another way than the meter finds them."""
    is_stream = text.startswith(("event:", "data:"))
    for part in text.splitlines() if is_stream else [text]:
        plain = part.removeprefix("data: ")
        if plain.lstrip().startswith("{"):
            try:
                yield json.loads(plain)
            except ValueError:
                return


def _called(node: object) -> Iterator[str]:
    """Yield the steps and items, wherever they stand, that show an interpreter call complete."""
    if isinstance(node, list):
        for each in node:
            yield from _called(each)
    elif isinstance(node, dict):
        calls = (node.get("step_details") or {}).get("tool_calls", ())
        is_step = node.get("object") == "thread.run.step"
        if is_step and any(call["type"] == "code_interpreter" for call in calls):
            yield node["id"]
        if node.get("type") == "code_interpreter_call":
            yield node["id"]
        for each in node.values():
            yield from _called(each)


@pytest.mark.parametrize(
    "path", [*sorted(OWN.glob("*.jsonl")), *_named_folder()], ids=lambda path: path.stem
)
def test_a_recorded_exchange_is_heard_alike_in_any_cutting_and_no_call_is_missed(
    path: Path,
) -> None:
    replayed = 0
    for exchange in _exchanges(path):
        whole, cut = (_replay(exchange, chunk_bytes=size) for size in (1 << 30, 7))
        assert whole.ear == cut.ear
        body = base64.b64decode(str(exchange["body_b64"])).decode("utf-8", "replace")
        called = set(_called(list(_documents(body))))
        # Nothing is heard that is not there, and nothing that is there is missed.
        assert {key for _, key in whole.ear.calls} == called
        replayed += 1
    assert replayed > 0


def test_a_folder_that_is_none_is_no_folder_of_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECORDINGS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(NotADirectoryError, match="RECORDINGS_DIR"):
        _named_folder()
    monkeypatch.setenv("RECORDINGS_DIR", str(tmp_path))
    assert _named_folder() == []
    (tmp_path / "a.jsonl").touch()
    assert _named_folder() == [tmp_path / "a.jsonl"]


def _calls(name: str) -> list[list[Call]]:
    """Return for each exchange of a file (scope, step or item, second after the start)."""
    return [
        sorted(
            (call.scope, call.key, call.at // SECOND - T)
            for call in _replay(exchange, chunk_bytes=64).ear.calls.values()
        )
        for exchange in _exchanges(OWN / f"{name}.jsonl")
    ]


def test_our_first_recordings_hold_one_run_and_one_response_with_a_call_each() -> None:
    for name, scope, key in (
        ("assistants_code_interpreter", "thread_made", "step_made"),
        ("responses_code_interpreter", "cntr_made", "ci_made"),
    ):
        heard = {call[:2] for exchange in _calls(name) for call in exchange}
        assert heard == {(scope, key)}


def test_one_step_a_page_shows_the_call_while_it_is_the_newest_and_never_again() -> None:
    assert _calls("assistants_polled_one_step_a_page") == [
        *([], [], [], []),
        [("thread_poll", "step_poll_1", 2)],
        *([], [], [], [], []),
    ]


def test_a_run_of_the_first_version_tells_no_usage_so_that_its_steps_must_be_read() -> None:
    runs = [
        (run.status, run.usage, run.may_call, run.began_here)
        for exchange in _exchanges(OWN / "assistants_polled_one_step_a_page.jsonl")
        for run in _replay(exchange, chunk_bytes=64).ear.runs.values()
    ]
    assert runs == [
        ("queued", None, True, True),
        ("in_progress", None, True, False),
        ("completed", None, True, False),
    ]


def test_a_function_is_no_call_and_a_call_that_fails_is_one() -> None:
    assert _calls("assistants_streamed_failing_call") == [[], [("thread_fail", "step_fail_2", 4)]]


def test_a_stream_that_goes_on_is_told_from_one_that_begins() -> None:
    first, second = (
        _replay(exchange, chunk_bytes=64)
        for exchange in _exchanges(OWN / "assistants_streamed_failing_call.jsonl")
    )
    before, after = first.ear.runs["run_fail"], second.ear.runs["run_fail"]
    assert (before.status, before.began_here, before.usage) == ("requires_action", True, None)
    assert (after.status, after.began_here) == ("failed", False)
    assert after.usage == Usage(input_tokens=110, cached_input_tokens=0, output_tokens=25)
    assert (first.ended, second.ended) == (True, True)
    assert (ObjectKind.FILE, "assistant-drawn") in second.ear.objects


def test_steps_that_come_at_once_show_every_call_whatever_it_returned() -> None:
    assert _calls("assistants_polled_steps_at_once") == [
        [],
        [("thread_all", "step_all_1", 2), ("thread_all", "step_all_2", 6)],
    ]


def test_words_before_a_call_do_not_hide_it_and_words_about_one_are_none() -> None:
    assert _calls("responses_words_before_the_call") == [[("cntr_late", "ci_late_1", 0)]]
    (exchange,) = _exchanges(OWN / "responses_words_before_the_call.jsonl")
    response = _replay(exchange, chunk_bytes=64).ear.responses["resp_late"]
    assert response.usage == Usage(input_tokens=60, cached_input_tokens=30, output_tokens=40)
    assert response.containers == {"cntr_late": "ci_late_1"}


def test_two_calls_in_a_container_of_ones_own_are_told_apart_and_a_deletion_tells_nothing() -> None:
    assert _calls("responses_in_a_made_container") == [
        [],
        [("cntr_own", "ci_own_1", 1), ("cntr_own", "ci_own_2", 1)],
        *([], []),
    ]
    made, *_, gone = _exchanges(OWN / "responses_in_a_made_container.jsonl")
    assert _replay(made, chunk_bytes=64).ear.containers == {"cntr_own": T * SECOND}
    assert _replay(gone, chunk_bytes=64).ear.containers == {}
