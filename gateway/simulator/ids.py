"""Identifiers as Azure shapes them, each a function of the seed, its prefix and its number."""

import hashlib
import uuid
from collections import Counter

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class Ids:
    """Hands out identifiers; the n-th of a prefix is the same in every life with the same seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._given: Counter[str] = Counter()

    def _digest(self, prefix: str) -> bytes:
        self._given[prefix] += 1
        name = f"{self._seed}/{prefix}/{self._given[prefix]}"
        return hashlib.sha512(name.encode()).digest()

    def mixed(self, prefix: str) -> str:
        """Return `prefix` and 24 letters or digits, as threads, runs and files have them."""
        tail = "".join(ALPHABET[byte % len(ALPHABET)] for byte in self._digest(prefix)[:24])
        return prefix + tail

    def hexadecimal(self, prefix: str) -> str:
        """Return `prefix` and 48 hexadecimal digits, as responses and containers have them."""
        return prefix + self._digest(prefix).hex()[:48]

    def request(self) -> str:
        """Return a UUID, as request identifiers are."""
        return str(uuid.UUID(bytes=self._digest("request")[:16], version=4))
