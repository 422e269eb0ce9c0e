"""Proxies: whose word counts on where a request comes from.

`X-Forwarded-For` is a list that grows to the right. Every proxy on the way appends the address of
the peer that it saw itself, so the last entry is the word of the proxy that speaks to us, the one
before it the word of the proxy before that, and what stood there first is whatever the client
liked to write. An entry is worth as much as who wrote it:

* The peer's own address comes from the kernel and is always believed.
* If the peer is a proxy of ours, the last entry is believed. If that is a proxy of ours too, then
  the entry before it is, and so on.
* The first address from the right that is no proxy of ours is the client. Everything to the left
  of it is that client's own text and is not even read.

So a caller who sends the header himself changes nothing: directly, he is no trusted peer; through
our proxies, his own address stands to the right of all he wrote. If every entry is a proxy of
ours, the request began at the leftmost of them. An entry that is no address (`unknown`, a name, an
empty one) ends the walk at the last hop that was one; it is never shown to anybody, and what is
shown is written anew from the parsed address, so that no text of a caller reaches a log.

Several header lines are one list, in their order. Ports and brackets are taken off: proxies write
`192.0.2.1:4711`, `[2001:db8::1]:4711` and `[2001:db8::1]`. An IPv4 address inside IPv6
(`::ffff:192.0.2.1`) is that IPv4 address. Zones (`fe80::1%eth0`) mean something on one machine
only and are no addresses here. `Forwarded`, `X-Real-IP` and their kin are not read: two headers
that may disagree are worse than one.

Source: RFC 7239, section 7.4 (the list is as good as the proxies that are known) and section 8.1;
RFC 9110, section 5.3 (several lines of one field).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

_PORT = rb"(?::[0-9]{1,5})?"
_HOP = re.compile(
    rb"[ \t]*(?:\[([0-9A-Fa-f:.]{2,45})\]" + _PORT + rb"|([0-9.]{7,15})" + _PORT + rb"|"
    rb"([0-9A-Fa-f:.]{2,45}))[ \t]*"
)
_MAPPED_BITS = 96


class Proxies:
    """The proxies that are trusted, by address or network; without any, every peer is a client."""

    __slots__ = ("_networks",)

    def __init__(self, names: Iterable[str] = ()) -> None:
        """Take addresses and networks such as `10.0.0.0/8` or `::1`.

        Raises:
            ValueError: one of them is neither.
        """
        self._networks = tuple(_unmapped_network(ip_network(name)) for name in names)

    def trusts(self, address: str) -> bool:
        """Return whether `address` is a proxy of ours; what is no address is none."""
        try:
            parsed = _unmapped(ip_address(address))
        except ValueError:
            return False
        return self._trusts(parsed)

    def client(self, peer: str, forwarded: Sequence[bytes]) -> str:
        """Return the address of whoever asked.

        `peer` is the address at the other end of the connection, `forwarded` are the values of the
        `X-Forwarded-For` lines in their order. The result is `peer` as it was given, or an address
        in its canonical form.
        """
        if not forwarded or not self.trusts(peer):
            return peer
        client = peer
        for hop in reversed(b",".join(forwarded).split(b",")):
            address = _parse(hop)
            if address is None:
                break
            client = str(address)
            if not self._trusts(address):
                break
        return client

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def _parse(hop: bytes) -> IPv4Address | IPv6Address | None:
    found = _HOP.fullmatch(hop)
    if found is None:
        return None
    bracketed, plain, bare = found.groups()
    try:
        if plain is not None:
            return IPv4Address(plain.decode("ascii"))
        return _unmapped(IPv6Address((bracketed or bare).decode("ascii")))
    except ValueError:
        return None


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _unmapped_network(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network
