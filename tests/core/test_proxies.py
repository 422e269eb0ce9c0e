"""Whose word counts on where a request comes from: the table, and what no caller can do."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.proxies import Proxies

OURS = Proxies(["10.0.0.0/8", "192.0.2.7", "fd00::/8", "::1", "::ffff:172.16.0.0/108"])

# peer, the header's lines, who asked
WALKS: dict[str, tuple[str, list[bytes], str]] = {
    "no header": ("10.0.0.1", [], "10.0.0.1"),
    "not from a proxy": ("203.0.113.5", [b"198.51.100.1"], "203.0.113.5"),
    "through one proxy": ("10.0.0.1", [b"198.51.100.1"], "198.51.100.1"),
    "through three": ("10.0.0.1", [b"198.51.100.1, 192.0.2.7,10.9.9.9"], "198.51.100.1"),
    "his own words to the left": ("10.0.0.1", [b"1.1.1.1, 198.51.100.1"], "198.51.100.1"),
    "his own words name a proxy": ("10.0.0.1", [b"10.0.0.9, 198.51.100.1"], "198.51.100.1"),
    "lines join in their order": (
        "10.0.0.1",
        [b"1.1.1.1", b"198.51.100.1", b"10.0.0.2"],
        "198.51.100.1",
    ),
    "all are proxies": ("10.0.0.1", [b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    "a port": ("10.0.0.1", [b"198.51.100.1:4711"], "198.51.100.1"),
    "a proxy with a port": ("10.0.0.1", [b"198.51.100.1, 10.0.0.2:80"], "198.51.100.1"),
    "ipv6": ("10.0.0.1", [b"2001:DB8:0::1"], "2001:db8::1"),
    "ipv6 in brackets": ("10.0.0.1", [b"[2001:db8::1]"], "2001:db8::1"),
    "ipv6 with a port": ("fd00::1", [b"[2001:db8::1]:443 "], "2001:db8::1"),
    "ipv4 in ipv6": ("::ffff:10.0.0.1", [b"::ffff:198.51.100.1"], "198.51.100.1"),
    "a mapped network": ("172.16.1.1", [b"198.51.100.1"], "198.51.100.1"),
    "tabs and spaces": ("10.0.0.1", [b" \t198.51.100.1\t "], "198.51.100.1"),
    "a word": ("10.0.0.1", [b"198.51.100.1, unknown"], "10.0.0.1"),
    "a word behind a proxy": ("10.0.0.1", [b"198.51.100.1, unix:, 10.0.0.2"], "10.0.0.2"),
    "an empty entry": ("10.0.0.1", [b"198.51.100.1, , 10.0.0.2"], "10.0.0.2"),
    "an empty line": ("10.0.0.1", [b""], "10.0.0.1"),
    "a zone": ("10.0.0.1", [b"fe80::1%eth0"], "10.0.0.1"),
    "a zone in brackets": ("10.0.0.1", [b"[fe80::1%a b]:1"], "10.0.0.1"),
    "leading zeros": ("10.0.0.1", [b"198.051.100.1"], "10.0.0.1"),
    "too large": ("10.0.0.1", [b"198.51.100.256"], "10.0.0.1"),
    "a network": ("10.0.0.1", [b"198.51.100.0/24"], "10.0.0.1"),
    "quotes": ("10.0.0.1", [b'"198.51.100.1"'], "10.0.0.1"),
    "half a bracket": ("10.0.0.1", [b"[2001:db8::1"], "10.0.0.1"),
    "ipv4 in brackets": ("10.0.0.1", [b"[198.51.100.1]"], "10.0.0.1"),
    "digits of another script": ("10.0.0.1", ["١٩٨.51.100.1".encode()], "10.0.0.1"),
    "a line end": ("10.0.0.1", [b"198.51.100.1\n"], "10.0.0.1"),
    "a peer that is no address": ("", [b"198.51.100.1"], ""),
}


@pytest.mark.parametrize("name", WALKS)
def test_the_client_is_the_first_from_the_right_that_is_no_proxy_of_ours(name: str) -> None:
    peer, forwarded, client = WALKS[name]
    assert OURS.client(peer, forwarded) == client


@pytest.mark.parametrize("name", ["proxy.example", "10.0.0.0/33", "10.0.0.1/8", "", "fe80::/129"])
def test_what_is_neither_an_address_nor_a_network_cannot_be_trusted(name: str) -> None:
    with pytest.raises(ValueError, match=r"does not appear|has host bits"):
        Proxies([name])


def test_without_trusted_proxies_the_peer_is_the_client() -> None:
    assert Proxies().client("127.0.0.1", [b"198.51.100.1"]) == "127.0.0.1"
    assert not Proxies().trusts("127.0.0.1")


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(
    lambda address: not (isinstance(address, IPv6Address) and address.ipv4_mapped)
)
STRANGERS = ADDRESSES.filter(lambda address: not OURS.trusts(str(address)))
OWN = st.one_of(
    st.ip_addresses(v=4, network="10.0.0.0/8"),
    st.just(ip_address("192.0.2.7")),
    st.ip_addresses(v=6, network="fd00::/8"),
)
# What a client may write himself: anything, most of all what looks as if a proxy had written it.
LIES = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.lists(
            st.one_of(ADDRESSES, OWN).map(lambda address: str(address).encode()), max_size=4
        ).map(b", ".join),
    ),
    max_size=4,
)


@st.composite
def appended(
    draw: st.DrawFn, address: IPv4Address | IPv6Address, lines: list[bytes]
) -> list[bytes]:
    """Return the lines as a proxy sends them on that saw `address`."""
    text = str(address)
    if draw(st.booleans()):
        port = draw(st.integers(0, 65535))
        text = f"[{text}]:{port}" if address.version == 6 else f"{text}:{port}"
    elif address.version == 6 and draw(st.booleans()):
        text = f"[{text}]"
    if not lines or draw(st.booleans()):
        return [*lines, text.encode()]
    return [*lines[:-1], lines[-1] + draw(st.sampled_from([b",", b", "])) + text.encode()]


@given(client=STRANGERS, lies=LIES, chain=st.lists(OWN, min_size=1, max_size=4), data=st.data())
def test_a_client_behind_our_proxies_cannot_choose_his_address(
    client: IPv4Address | IPv6Address,
    lies: list[bytes],
    chain: list[IPv4Address | IPv6Address],
    data: st.DataObject,
) -> None:
    lines, seen = lies, client
    for proxy in chain:
        lines = data.draw(appended(seen, lines))
        seen = proxy
    assert OURS.client(str(seen), lines) == str(client)


@given(client=STRANGERS, lies=LIES)
def test_a_client_who_comes_directly_cannot_choose_his_address(
    client: IPv4Address | IPv6Address, lies: list[bytes]
) -> None:
    assert OURS.client(str(client), lies) == str(client)


@given(peer=OWN, lines=st.lists(st.binary(max_size=60), max_size=5))
def test_whatever_the_header_holds_the_answer_is_an_address(
    peer: IPv4Address | IPv6Address, lines: list[bytes]
) -> None:
    client = OURS.client(str(peer), lines)
    assert str(ip_address(client)) == client
