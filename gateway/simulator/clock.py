"""The simulator's clock: the wall's time and what was added to it, or one that stands still."""

import time

MICROSECONDS = 1_000_000


class Clock:
    """Time in integer microseconds since the epoch, UTC; it never goes back within one life."""

    def __init__(self, *, wall: bool, start_s: int) -> None:
        self.wall = wall
        self._offset_us = 0
        self._still_us = start_s * MICROSECONDS

    def now_us(self) -> int:
        """Return the present instant in microseconds."""
        if self.wall:
            return time.time_ns() // 1000 + self._offset_us
        return self._still_us

    def now_s(self) -> int:
        """Return the present instant in whole seconds, as the wire dates things."""
        return self.now_us() // MICROSECONDS

    def advance(self, by_us: int) -> None:
        """Move forward by `by_us` microseconds.

        Raises:
            ValueError: `by_us` is negative.
        """
        if by_us < 0:
            raise ValueError(f"the clock may not go back (asked for `{by_us}` microseconds)")
        if self.wall:
            self._offset_us += by_us
        else:
            self._still_us += by_us

    def set_s(self, now_s: float) -> None:
        """Move forward to the instant `now_s`, in seconds.

        Raises:
            ValueError: that instant has passed.
        """
        self.advance(round(now_s * MICROSECONDS) - self.now_us())
