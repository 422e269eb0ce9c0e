"""api-versions: what the client speaks, what is sent, and the walk between the two.

`policy` decides which version is sent (`route`), `walk` turns requests into that version's shape
and replies back, `change` says what one dated change is, and `assistants_v2` and `repair` are the
changes there are. `reading` makes a policy of a parsed `api_versions.toml`.
"""

from gateway.core.versions.change import Change, Json
from gateway.core.versions.policy import (
    FOUNDRY_VERSIONS,
    V1_VERSIONS,
    KnownVersion,
    Route,
    VersionPolicy,
    route,
)
from gateway.core.versions.reading import read_policy
from gateway.core.versions.walk import alters_replies, downgrade, upgrade

__all__ = [
    "FOUNDRY_VERSIONS",
    "V1_VERSIONS",
    "Change",
    "Json",
    "KnownVersion",
    "Route",
    "VersionPolicy",
    "alters_replies",
    "downgrade",
    "read_policy",
    "route",
    "upgrade",
]
