"""The three ways in which a request to Azure can fail, as far as a caller must know."""

from __future__ import annotations


class NotSent(Exception):
    """Certainly nothing of the request reached the upstream; it may be repeated."""


class MaybeSent(Exception):
    """Bytes may have reached the upstream, and no usable reply head was received."""


class ReplyBroken(Exception):
    """The reply head was received and its body ended badly, or is longer than was asked for."""
