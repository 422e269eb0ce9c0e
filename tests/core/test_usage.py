"""Token counts: three shapes, one reading; what cannot be read is None and never zero."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Usage
from gateway.core.usage import read_usage


@pytest.mark.parametrize(
    ("document", "usage"),
    [
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "total_tokens": 120,
                "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 12},
            },
            Usage(36, 64, 20),
        ),
        (
            {
                "prompt_tokens": 381,
                "completion_tokens": 89,
                "prompt_token_details": {"cached_tokens": 256},
            },
            Usage(125, 256, 89),
        ),
        (
            {
                "input_tokens": 50,
                "input_tokens_details": {"cached_tokens": 50},
                "output_tokens": 7,
                "output_tokens_details": {"reasoning_tokens": 0},
            },
            Usage(0, 50, 7),
        ),
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8, 0, 0)),
        ({"prompt_tokens": 279, "completion_tokens": 20}, Usage(279, 0, 20)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(0, 0, 0)),
        (
            {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": None},
            Usage(5, 0, 1),
        ),
        ({"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {}}, Usage(5, 0, 1)),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 1,
                "prompt_tokens_details": {"cached_tokens": None},
            },
            Usage(5, 0, 1),
        ),
    ],
)
def test_each_shape_is_brought_to_disjoint_counts(document: object, usage: Usage) -> None:
    assert read_usage(document) == usage


NO_COUNTS: list[object] = [-1, True, False, 1.0, "5", [5], {}, 1 << 41]


@pytest.mark.parametrize("document", [None, [], "", 0, 5, True, {}, {"total_tokens": 5}])
def test_a_document_without_an_input_count_is_none(document: object) -> None:
    assert read_usage(document) is None


@pytest.mark.parametrize("no_count", [*NO_COUNTS, None])
@pytest.mark.parametrize(
    "names", [("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")]
)
def test_a_count_that_is_no_sane_number_is_none_and_never_zero(
    no_count: object, names: tuple[str, str]
) -> None:
    assert read_usage({names[0]: no_count, names[1]: 1}) is None
    assert read_usage({names[0]: 5, names[1]: no_count}) is None


@pytest.mark.parametrize(
    "name", ["prompt_tokens_details", "prompt_token_details", "input_tokens_details"]
)
@pytest.mark.parametrize(
    "details", [[], 3, "3", True, *({"cached_tokens": n} for n in [6, *NO_COUNTS])]
)
def test_cached_tokens_that_cannot_be_read_or_exceed_the_input_make_the_whole_unreadable(
    name: str, details: object
) -> None:
    assert read_usage({"prompt_tokens": 5, "completion_tokens": 1, name: details}) is None


COUNT = st.integers(0, 1 << 40)


@given(COUNT, COUNT, COUNT)
def test_input_and_cached_input_always_add_up_to_what_azure_counted(
    total: int, cached: int, output: int
) -> None:
    details = {"cached_tokens": cached}
    usage = read_usage(
        {"input_tokens": total, "output_tokens": output, "input_tokens_details": details}
    )
    if cached > total:
        assert usage is None
    else:
        assert usage == Usage(total - cached, cached, output)
