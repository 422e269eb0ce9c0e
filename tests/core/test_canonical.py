"""Strict JSON: what two parsers could read differently is refused, the rest comes out the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.canonical import BRACKETS_MAX, DEPTH_MAX, NODES_MAX, dump, parse_object
from gateway.core.errors import Code, Refusal


def refusal(raw: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        dump(parse_object(raw))
    assert caught.value.refused.code is Code.INVALID_JSON
    assert caught.value.refused.rule == "json-not-strict"
    return caught.value


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"\\u0061":2}',
        b'{"x":{"a":1,"a":1}}',
        b'{"x":[[{"a":1,"b":2,"a":3}]]}',
        b'{"":1,"":2}',
        b'{"a":null,"a":null}',
    ],
)
def test_a_key_given_twice_is_refused_at_any_depth_and_in_any_spelling(raw: bytes) -> None:
    assert "a key is given twice" in refusal(raw).refused.message


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e9999"])
@pytest.mark.parametrize("place", ['{"a":%s}', '{"a":[1,%s]}', '{"a":{"b":%s}}'])
def test_a_number_that_no_double_can_hold_is_refused(number: str, place: str) -> None:
    refusal((place % number).encode())


@pytest.mark.parametrize(
    "number",
    [
        "18446744073709551616",
        "-9223372036854775809",
        "1" + "0" * 400,
        "9" * 5000,
        "01",
        "1.",
        ".5",
        "+1",
        "0x10",
        "1_000",
        "1e",
        "-",
    ],
)
def test_an_integer_beyond_64_bits_or_a_number_of_another_grammar_is_refused(number: str) -> None:
    refusal(f'{{"a":{number}}}'.encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"\xef\xbb\xbf{}",
        *('{"a":1}'.encode(name) for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")),
        '{"a":"ä"}'.encode("latin-1"),
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xc0\xaf"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00\\ud800"}',
        b'{"\\ud800":1}',
        b'{"a":"\\ud800x"}',
    ],
)
def test_other_encodings_and_broken_characters_are_refused(raw: bytes) -> None:
    refusal(raw)


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b" ", b"null", b"[]", b"5", b'"a"', b"true", b"[{}]"),
        *(b"{}x", b"{} {}", b"{}\n{}", b"{}\x00", b'{"a":1,}', b"{,}", b"{'a':1}", b"{a:1}"),
        *(b'{"a":1 /* c */}', b"// c\n{}", b'{"a":"\n"}', b'{"a":"\x00"}', b'{"a":"\\x41"}'),
        *(b'{"a"', b'{"a":', b'{"a":"', b"{", b"a=b&c=d", b"\xa0{}", b"\x0b{}"),
    ],
)
def test_what_is_not_exactly_one_json_object_is_refused(raw: bytes) -> None:
    refusal(raw)


@pytest.mark.parametrize("depth", [DEPTH_MAX + 1, 1000, 100_000])
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_refused_quickly(depth: int, opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    refusal(b'{"a":' + opening * depth + b"1" + closing * depth + b"}")
    refusal(b'{"a":' + opening * depth)


def test_nesting_up_to_the_limit_passes() -> None:
    depth = DEPTH_MAX - 2
    raw = b'{"a":' + b"[" * depth + b"1" + b"]" * depth + b"}"
    assert dump(parse_object(raw)) == raw


def test_a_body_of_more_values_than_the_limit_is_refused() -> None:
    fields = b",".join(b'"%d":0' % number for number in range(NODES_MAX))
    assert len(parse_object(b"{" + fields + b"}")) == NODES_MAX
    assert str(NODES_MAX) in refusal(b'{"a":0,' + fields + b"}").refused.message


def test_a_body_of_more_objects_than_the_limit_is_refused_and_brackets_in_a_text_are_none() -> None:
    inner = b",".join([b"{}"] * (BRACKETS_MAX - 2))
    assert len(parse_object(b'{"a":[' + inner + b"]}")) == 1
    assert str(BRACKETS_MAX) in refusal(b'{"a":[{},' + inner + b"]}").refused.message
    text = b'\\"[{' * BRACKETS_MAX
    assert len(parse_object(b'{"a":"' + text + b'"}')) == 1


def test_tokens_to_embed_may_be_many_since_a_plain_list_holds_no_field() -> None:
    numbers = b",".join([b"7"] * (4 * NODES_MAX))
    assert len(parse_object(b'{"input":[[' + numbers + b"],[1]]}")) == 1


@pytest.mark.parametrize("numbers", [b"1,1e400", b"1e400", b"[1,-1e400]", b"null,1e400"])
def test_an_infinity_is_found_in_a_plain_list_too(numbers: bytes) -> None:
    assert "no double" in refusal(b'{"input":[' + numbers + b"]}").refused.message


def test_a_refusal_says_where_and_quotes_nothing_of_the_body() -> None:
    for raw in (b'{"secret":1,"secret":2}', b'{"secret":secret}', b'{"secret at line 7":1,"a'):
        message = refusal(raw).refused.message
        assert "secret" not in message
        assert "at line 1 column" in message


def test_a_fault_without_a_place_is_told_without_one() -> None:
    assert refusal(b"[]").refused.message == "the body must be a JSON object"


@pytest.mark.parametrize(
    ("raw", "sent"),
    [
        (b' { "b" : 1 ,\n"a":\t[ ] }\r\n', b'{"b":1,"a":[]}'),
        (b'{"a":"\\u00e4\\/\\n"}', '{"a":"ä/\\n"}'.encode()),
        (b'{"a":"\\ud83d\\ude00"}', '{"a":"😀"}'.encode()),
        (b'{"a":1.0,"b":1e2,"c":-0.0}', b'{"a":1.0,"b":100.0,"c":-0.0}'),
        (b'{"a":18446744073709551615}', b'{"a":18446744073709551615}'),
        (b'{"a":-9223372036854775808}', b'{"a":-9223372036854775808}'),
        (b'{"Tools":1,"tools":2}', b'{"Tools":1,"tools":2}'),
        (b'{"a\\u0000":true}', b'{"a\\u0000":true}'),
    ],
)
def test_what_goes_on_is_the_parsed_document_written_again(raw: bytes, sent: bytes) -> None:
    assert dump(parse_object(raw)) == sent


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=30,
)


@given(st.dictionaries(TEXT, JSON, max_size=5), st.booleans(), st.sampled_from([None, 2]))
def test_whoever_wrote_it_the_document_comes_out_the_same(
    document: dict[str, object], ascii_only: bool, indent: int | None
) -> None:
    raw = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    sent = dump(parse_object(raw))
    assert parse_object(sent) == document
    assert dump(parse_object(sent)) == sent
    assert json.loads(sent) == document


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_and_never_crash(raw: bytes) -> None:
    try:
        document = parse_object(raw)
    except Refusal:
        return
    assert json.loads(raw) == document
