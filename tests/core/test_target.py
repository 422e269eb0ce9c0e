"""Targets: one canonical reading, and everything else refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import Code, Refusal
from gateway.core.target import parse_target, render_query

THREAD_PATH = b"/openai/threads/thread_1"

# What somebody writes between two segments, or in one, to be read in two ways.
TRICKS = [
    *(b"//", b"/./", b"/../", b"/.//", b"/..;/", b"/.;/", b"/;/", b"/;a=b/", b";", b";a=b", b"\\"),
    *(b"/..%2f", b"%2e", b"%2E%2e", b"%2f", b"%2F", b"%5c", b"%252f", b"%252e", b"%00", b"%0d%0a"),
    *(b"%u002f", b"%c0%ae", b"%c0%af", b"%e0%80%af", b"%", b"%2", b"%zz", b"%20", b"%09", b"%7e"),
    *(b"\x00", b"\n", b"\r", b"\t", b" ", b"\x7f", b"\xc0\xaf", b"\xff", b"\xef\xbc\x8f"),
    *(b"\xe2\x81\x84", b"#", b"#a", b"@", b":", b"*", b"+", b"'", b'"', b"<", b"{", b"|", b"^"),
]


def refusal(target: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        parse_target(target)
    return caught.value


@pytest.mark.parametrize(
    ("target", "segments"),
    [
        (b"/openai/threads/thread_1", ("openai", "threads", "thread_1")),
        (b"//openai/threads/thread_1", ("openai", "threads", "thread_1")),
        (b"/openai/v1/files", ("openai", "v1", "files")),
        (
            b"/openai/deployments/gpt-4.1/embeddings",
            ("openai", "deployments", "gpt-4.1", "embeddings"),
        ),
        (b"/api/projects/p~1/threads", ("api", "projects", "p~1", "threads")),
        (b"/OpenAI/threads", ("OpenAI", "threads")),
    ],
)
def test_a_canonical_path_is_its_segments_and_nothing_is_changed(
    target: bytes, segments: tuple[str, ...]
) -> None:
    assert parse_target(target).segments == segments


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("cut", [0, 1, 8, 16, 20, len(THREAD_PATH)])
def test_no_trick_anywhere_in_a_path_is_normalised_away(trick: bytes, cut: int) -> None:
    refused = refusal(THREAD_PATH[:cut] + trick + THREAD_PATH[cut:]).refused
    assert refused.code is Code.MALFORMED_REQUEST
    assert refused.rule == "target-not-canonical"


@pytest.mark.parametrize(
    "target",
    [
        *(b"", b"/", b"*", b"openai/threads", b"?a=b", b"/?a=b", b"//", b"///"),
        *(b"///openai/threads", b"//openai", b"//api/projects/p", b"/openai//threads"),
        *(b"/openai/threads/", b"/openai/threads/.", b"/openai/threads/..", b"/openai/.hidden"),
        *(b"/openai/threads/thread_1.", b"//openai/threads/", b"//openai//threads"),
        *(b"http://azure/openai/threads", b"azure:443", b"/openai/threads#fragment"),
    ],
)
def test_targets_of_any_other_form_are_refused(target: bytes) -> None:
    assert refusal(target).refused.code.status == 400


@given(st.binary(max_size=40))
def test_a_path_is_either_refused_or_read_exactly_as_it_stands(raw: bytes) -> None:
    try:
        target = parse_target(b"/openai/" + raw)
    except Refusal:
        return
    path = raw.partition(b"?")[0]
    assert "/".join(target.segments).encode() == b"openai/" + path
    assert all(segment not in ("", ".", "..") for segment in target.segments)


@given(st.text("abcXYZ019-_~", min_size=1), st.text("abc.", max_size=5))
def test_an_overlong_segment_is_still_one_segment(name: str, middle: str) -> None:
    long = name * 300 + middle + name
    assert parse_target(f"/openai/{long}".encode()).segments == ("openai", long)


# queries


@pytest.mark.parametrize(
    ("query", "pairs"),
    [
        (b"", ()),
        (b"api-version=2024-05-01-preview", (("api-version", "2024-05-01-preview"),)),
        (b"api-version=v1&limit=2", (("api-version", "v1"), ("limit", "2"))),
        (b"api%2Dversion=v1", (("api-version", "v1"),)),
        (b"include[]=a&include%5B%5D=b", (("include[]", "a"), ("include[]", "b"))),
        (b"purpose=a+b%2Bc", (("purpose", "a b+c"),)),
        (b"after=", (("after", ""),)),
        (b"a=b=c", (("a", "b=c"),)),
        (b"a=%C3%A4", (("a", "ä"),)),
    ],
)
def test_a_query_is_decoded_once_and_kept_in_order(
    query: bytes, pairs: tuple[tuple[str, str], ...]
) -> None:
    assert parse_target(b"/openai/files?" + query).query == pairs


@pytest.mark.parametrize(
    "query",
    [
        *(
            b"limit",
            b"=2",
            b"&",
            b"a=b&",
            b"&a=b",
            b"a=b&&c=d",
            b"a=b&c",
            b"a=%",
            b"a=%4",
            b"a=%zz",
        ),
        *(
            b"a=%00",
            b"a=%0d%0ax: y",
            b"%0a=b",
            b"a=\x00",
            b"a=%7f",
            b"a=%c2%85",
            b"a=\xff",
            b"a=%ff",
        ),
        *(b"a=%c0%af", b"a=%ed%a0%80", b"a=%E2%80%8B", b"a=%u0041", b"a=%EF%BB%BFb"),
    ],
)
def test_a_query_that_is_malformed_or_holds_control_characters_is_refused(query: bytes) -> None:
    refused = refusal(b"/openai/files?" + query).refused
    assert (refused.code, refused.param) == (Code.MALFORMED_REQUEST, "query")


def test_a_query_has_at_most_32_parameters() -> None:
    assert len(parse_target(b"/openai/files?" + b"&".join([b"a=b"] * 32)).query) == 32
    assert "32" in refusal(b"/openai/files?" + b"&".join([b"a=b"] * 33)).refused.message


def test_what_we_send_escapes_everything_that_could_be_read_as_something_else() -> None:
    pairs = (("include[]", "a&b=c#d/e?f%2e +"), ("a=b", "ä"))
    assert render_query(pairs) == ("include[]=a%26b%3Dc%23d%2Fe%3Ff%252e%20%2B&a%3Db=%C3%A4")


PRINTABLE = st.text(st.characters(codec="utf-8").filter(str.isprintable), max_size=12)


@given(st.lists(st.tuples(PRINTABLE.filter(bool), PRINTABLE), min_size=1, max_size=8))
def test_a_query_we_wrote_is_read_as_what_we_meant(pairs: list[tuple[str, str]]) -> None:
    written = render_query(tuple(pairs)).encode("ascii")
    assert parse_target(b"/openai/files?" + written).query == tuple(pairs)
