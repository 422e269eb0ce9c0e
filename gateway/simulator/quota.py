"""What Azure's rate-limit headers say: a minute's budget of requests and tokens by deployment.

The budget is counted and shown, and never refused: a 429 is there on demand.

Source: headers of Azure chat answers, 2026-03 (`x-ratelimit-*`, `x-ms-deployment-name`,
`azureml-model-session`, `cmp-upstream-response-duration`, `skip-error-remapping`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

PERIOD_S = 60
REQUESTS_PER_PERIOD = 1000
TOKENS_PER_PERIOD = 1_000_000


@dataclass(slots=True)
class Spent:
    """What one deployment has used since `since_s`, when its period began."""

    since_s: int
    requests: int = 0
    tokens: int = 0


@dataclass(slots=True)
class Quota:
    """The periods of all deployments."""

    _spent: dict[str, Spent] = field(default_factory=dict)

    def take(self, deployment: str, tokens: int, *, at_s: int) -> Mapping[str, str]:
        """Count one answered request and return the headers that tell of what is left."""
        spent = self._spent.get(deployment)
        if spent is None or at_s >= spent.since_s + PERIOD_S:
            spent = self._spent[deployment] = Spent(at_s)
        spent.requests += 1
        spent.tokens += tokens
        reset = str(spent.since_s + PERIOD_S - at_s)
        return {
            "azureml-model-session": "d060-20260331",
            "cmp-upstream-response-duration": "200",
            "skip-error-remapping": "true",
            "x-ms-deployment-name": deployment,
            "x-ms-is-spilled-over": "false",
            "x-ratelimit-abusepenalty-active": "False",
            "x-ratelimit-limit-requests": str(REQUESTS_PER_PERIOD),
            "x-ratelimit-limit-tokens": str(TOKENS_PER_PERIOD),
            "x-ratelimit-remaining-requests": str(max(0, REQUESTS_PER_PERIOD - spent.requests)),
            "x-ratelimit-remaining-tokens": str(max(0, TOKENS_PER_PERIOD - spent.tokens)),
            "x-ratelimit-renewalperiod-requests": str(PERIOD_S),
            "x-ratelimit-renewalperiod-tokens": str(PERIOD_S),
            "x-ratelimit-reset-requests": reset,
            "x-ratelimit-reset-tokens": reset,
        }
