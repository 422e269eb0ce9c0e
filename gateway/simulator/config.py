"""What a simulated resource is like: its key, its deployments, its pace and its terms."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.simulator.invoice import SESSION_TERMS, TOKEN_PRICES, SessionTerms
from gateway.simulator.versions import ApiVersions

_MODELS = (
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-4.1-mini",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "text-embedding-ada-002",
)
_SNAPSHOTS = {
    "gpt-4o": "gpt-4o-2024-11-20",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
}


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """What a simulated resource is like.

    `deployments` maps a name to its model; `run_s` is how long a polled run or a background
    response takes on the simulator's clock; with `wall_clock` false that clock stands at `start_s`
    until it is moved; `chunk_delay_s` is a pause on the wall's clock between streamed events;
    `session_terms` says by kind (`thread`, `container`, and `project` for threads under
    `/api/projects`) when a code-interpreter session ends; `entra_token` is a bearer token that
    opens the door as the key does.

    Raises:
        ValueError: a deployment's model has no price.
    """

    api_key: str = "azure-simulator-key"
    seed: int = 7
    deployments: Mapping[str, str] = field(default_factory=lambda: {name: name for name in _MODELS})
    wall_clock: bool = True
    start_s: int = 1_790_000_000
    run_s: float = 0.3
    api_versions: ApiVersions = field(default_factory=ApiVersions)
    chunk_delay_s: float = 0.0
    session_terms: Mapping[str, SessionTerms] = field(default_factory=lambda: dict(SESSION_TERMS))
    entra_token: str = "entra-simulator-token"  # noqa: S105 - the key of a play, not of a door

    def __post_init__(self) -> None:
        unpriced = sorted(set(self.deployments.values()) - set(TOKEN_PRICES))
        if unpriced:
            known = ", ".join(f"`{model}`" for model in TOKEN_PRICES)
            raise ValueError(f"the invoice has no price for model `{unpriced[0]}`; it has {known}")


def snapshot_of(model: str) -> str:
    """Return the dated name under which answers show a model."""
    return _SNAPSHOTS.get(model, model)
