"""Team keys: their form, what is kept of them, and who is let in."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.callers import CREDENTIAL_BYTES_MAX, KeyRing, digest, is_public, mint
from gateway.core.errors import Code, Refusal
from gateway.core.model import Caller, Micros
from gateway.ports import KeyRecord

PEPPER = b"p" * 64
PUBLIC, KEY = mint(bytes(range(32)))
OTHER_PUBLIC, OTHER_KEY = mint(bytes(range(1, 33)))
NOW: Micros = 1_790_000_000_000_000

Headers = list[tuple[bytes, bytes]]


def record(key: str, *, team: str, revoked_at: Micros | None = None) -> KeyRecord:
    return KeyRecord(
        public=key.split("-")[1],
        digest=digest(key, PEPPER),
        team=team,
        created_at=0,
        revoked_at=revoked_at,
    )


RING = KeyRing([record(KEY, team="blue"), record(OTHER_KEY, team="green")], PEPPER)


def refusal(headers: Iterable[tuple[bytes, bytes]], ring: KeyRing = RING) -> Refusal:
    with pytest.raises(Refusal) as caught:
        ring.identify(headers, NOW)
    return caught.value


def test_a_key_is_gw_a_public_part_and_a_secret_of_192_bits() -> None:
    assert re.fullmatch(r"gw-[a-z2-7]{12}-[a-z2-7]{39}", KEY)
    assert KEY.split("-")[1] == PUBLIC
    assert is_public(PUBLIC)
    assert not is_public(KEY)


def test_a_key_is_as_good_as_its_entropy_and_says_so() -> None:
    assert mint(bytes(range(32))) == (PUBLIC, KEY)
    with pytest.raises(ValueError, match=r"`31` bytes of entropy, `32` are needed"):
        mint(bytes(31))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_keys_of_different_secret_entropy_differ_in_the_secret(one: bytes, two: bytes) -> None:
    same = one[8:] == two[8:]
    assert (mint(one)[1].split("-")[2] == mint(two)[1].split("-")[2]) == same


def test_what_is_kept_depends_on_the_whole_key_and_on_the_pepper() -> None:
    assert len(digest(KEY, PEPPER)) == 32
    assert digest(KEY, PEPPER) != digest(KEY[:-1], PEPPER)
    assert digest(KEY, PEPPER) != digest(KEY, b"q" * 64)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"api-key", KEY.encode())],
        [(b"authorization", b"Bearer " + KEY.encode())],
        [(b"authorization", b"bearer " + KEY.encode())],
        [(b"authorization", b"BEARER   " + KEY.encode())],
        [(b"api-key", KEY.encode()), (b"authorization", b"Bearer " + KEY.encode())],
        [(b"accept", b"*/*"), (b"x-api-key", b"ignored"), (b"api-key", KEY.encode())],
    ],
)
def test_a_key_is_shown_in_either_header_or_the_same_in_both(headers: Headers) -> None:
    assert RING.identify(headers, NOW) == Caller(team="blue", key=PUBLIC)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"api-key", b"")],
        [(b"api-key", b" ")],
        [(b"api-key", b"x" * 1_000_000)],
        [(b"api-key", b"' OR 1=1 --\0%00\xff")],
        [(b"api-key", KEY.encode().upper())],
        [(b"api-key", KEY.encode() + b" ")],
        [(b"api-key", KEY.encode()[:-1])],
        [(b"api-key", b"Bearer " + KEY.encode())],
        [(b"api-key", KEY.encode() + b"," + KEY.encode())],
        [(b"api-key", KEY.encode()), (b"api-key", OTHER_KEY.encode())],
        [(b"api-key", KEY.encode()), (b"authorization", b"Bearer " + OTHER_KEY.encode())],
        [(b"api-key", KEY.encode()), (b"authorization", b"Basic eDp5")],
        [(b"api-key", b""), (b"authorization", b"Bearer " + KEY.encode())],
        [(b"authorization", KEY.encode())],
        [(b"authorization", b"Bearer" + KEY.encode())],
        [(b"authorization", b"Bearer\t" + KEY.encode())],
        [(b"authorization", b"Basic " + KEY.encode())],
        [(b"authorization", b"Bearer " + KEY.encode() + b", Bearer " + OTHER_KEY.encode())],
        [(b"x-api-key", KEY.encode())],
        [(b"ocp-apim-subscription-key", KEY.encode())],
        [(b"cookie", b"api-key=" + KEY.encode())],
    ],
)
def test_everything_else_is_one_and_the_same_refusal(headers: Headers) -> None:
    refused = refusal(headers).refused
    assert refused == refusal([]).refused
    assert refused.code is Code.INVALID_KEY
    assert refused.code.status == 401


def test_a_refusal_shows_nothing_of_what_was_sent() -> None:
    refused = refusal([(b"api-key", b"gw-secretsecret-of-somebody")])
    assert b"secretsecret" not in refused.refused.body()
    assert "secretsecret" not in str(refused)


def test_a_long_credential_is_never_a_key_even_if_it_was_issued() -> None:
    long = "x" * (CREDENTIAL_BYTES_MAX + 1)
    known = KeyRecord(public="x", digest=digest(long, PEPPER), team="blue", created_at=0)
    ring = KeyRing([known], PEPPER)
    assert refusal([(b"api-key", long.encode())], ring).refused.code is Code.INVALID_KEY


def test_no_key_is_no_caller_even_if_the_digest_of_nothing_was_kept() -> None:
    none = KeyRecord(public="x", digest=bytes(32), team="blue", created_at=0)
    assert refusal([], KeyRing([none], PEPPER)).refused.code is Code.INVALID_KEY


@pytest.mark.parametrize(("revoked_at", "is_let_in"), [(NOW + 1, True), (NOW, False), (0, False)])
def test_a_revoked_key_is_refused_from_that_moment_on(revoked_at: Micros, is_let_in: bool) -> None:
    ring = KeyRing([record(KEY, team="blue", revoked_at=revoked_at)], PEPPER)
    headers = [(b"api-key", KEY.encode())]
    if is_let_in:
        assert ring.identify(headers, NOW).team == "blue"
    else:
        assert refusal(headers, ring).refused == refusal([]).refused


def test_a_key_issued_under_another_pepper_is_unknown() -> None:
    ring = KeyRing([record(KEY, team="blue")], b"q" * 64)
    assert refusal([(b"api-key", KEY.encode())], ring).refused.code is Code.INVALID_KEY


def test_a_ring_does_not_change_with_the_list_it_was_made_of() -> None:
    records = [record(KEY, team="blue")]
    ring = KeyRing(records, PEPPER)
    records.clear()
    assert ring.identify([(b"api-key", KEY.encode())], NOW).team == "blue"


@given(
    st.lists(st.tuples(st.sampled_from([b"api-key", b"authorization"]), st.binary()), max_size=4)
)
def test_no_bytes_whatever_are_let_in_or_break_it(headers: Headers) -> None:
    assert refusal(headers).refused.code is Code.INVALID_KEY
