"""Azure, as far as this program is concerned: the only module that talks to it.

What a caller of `AzureUpstream.send` must know afterwards is not why a request failed but whether
Azure may be working on it: that decides whether it may be repeated and whether money may have been
spent. So there are three faults and no others:

* `NotSent`: nothing was written. Everything before the connection stands: name, address, TLS, the
  wait for a place in the pool. It may be repeated.
* `MaybeSent`: writing may have begun and no usable reply head came. Every fault that is not known
  to be of the first kind is of this one, also those nobody thought of.
* `ReplyBroken`: the head was handed over and the body ended badly.

`azure` sends the street's requests, `transport` is the network below it, `faults` the three faults.
"""

from gateway.upstream.azure import AzureUpstream, Credential, Reply, TokenFile, UpstreamTarget
from gateway.upstream.faults import MaybeSent, NotSent, ReplyBroken
from gateway.upstream.transport import HEAD_BYTES_MAX, AzureTransport

__all__ = [
    "HEAD_BYTES_MAX",
    "AzureTransport",
    "AzureUpstream",
    "Credential",
    "MaybeSent",
    "NotSent",
    "Reply",
    "ReplyBroken",
    "TokenFile",
    "UpstreamTarget",
]
