"""A visit: what is known of a request so far, also when it is refused at the first stage."""

from __future__ import annotations

from gateway.answer import Answer
from gateway.core.model import Surface
from gateway.exchange import Asked


class Visit:
    """One request as the metrics and the refusals see it; `asked` is None until it was matched."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: Asked | None = None
        self.team = "none"
        self.operation = "none"
        self.upstream = "none"
        self.is_promised = False

    @property
    def is_projects(self) -> bool:
        """Whether the caller's program was written for Foundry projects."""
        return self.asked is not None and self.asked.operation.surface is Surface.FOUNDRY

    def let_go(self) -> None:
        """Give back what the spool holds for this visit."""
        if self.asked is not None and self.asked.upload is not None:
            self.asked.upload.file.close()
