"""Tokens of one call, and the three ways Azure spells them."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the wire counts them: `input_tokens` includes the cached ones."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
            self.output_tokens + other.output_tokens,
        )

    def split(self, parts: int) -> list["Usage"]:
        """Return `parts` usages that sum to this one; the last takes what does not divide."""
        if parts == 0:
            return []
        even = Usage(
            self.input_tokens // parts,
            self.cached_input_tokens // parts,
            self.output_tokens // parts,
        )
        before = parts - 1
        last = Usage(
            self.input_tokens - before * even.input_tokens,
            self.cached_input_tokens - before * even.cached_input_tokens,
            self.output_tokens - before * even.output_tokens,
        )
        return [even] * before + [last]

    @property
    def total_tokens(self) -> int:
        """All tokens, in and out."""
        return self.input_tokens + self.output_tokens

    def as_run(self) -> dict[str, Any]:
        """Return the usage of a run or a run step (`prompt_token_details`, in the singular)."""
        return {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.total_tokens,
            "prompt_token_details": {"cached_tokens": self.cached_input_tokens},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }

    def as_chat(self) -> dict[str, Any]:
        """Return the usage of a chat completion."""
        return {
            "completion_tokens": self.output_tokens,
            "completion_tokens_details": {
                "accepted_prediction_tokens": 0,
                "audio_tokens": 0,
                "reasoning_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
            "prompt_tokens": self.input_tokens,
            "prompt_tokens_details": {
                "audio_tokens": 0,
                "cached_tokens": self.cached_input_tokens,
            },
            "total_tokens": self.total_tokens,
        }

    def as_response(self) -> dict[str, Any]:
        """Return the usage of a response."""
        return {
            "input_tokens": self.input_tokens,
            "input_tokens_details": {"cached_tokens": self.cached_input_tokens},
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.total_tokens,
        }


def count_tokens(texts: list[str]) -> int:
    """Return the simulator's token count of `texts`: a token is four UTF-8 bytes, at least one."""
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return max(1, -(-size // 4))
