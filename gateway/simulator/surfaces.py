"""The three surfaces of the resource, told apart by the path, and the versions each takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from gateway.simulator.errors import resource_not_found
from gateway.simulator.versions import ApiVersions

_V1 = "/openai/v1/"
_DATED = "/openai/"
_PROJECTS = "/api/projects/"


@dataclass(frozen=True, slots=True)
class Surface:
    """Where a request came in: `path` is what follows the surface's root, still encoded."""

    name: str
    path: str
    version: str
    names: Mapping[str, str]


def read_surface(versions: ApiVersions, raw_path: str, version: str | None) -> Surface:
    """Return the surface of a raw path.

    All projects of the resource show the same objects: only the path tells them apart.

    Raises:
        Fault: 404, no surface is there; 400 or 404, the api-version is none of its own.
    """
    if raw_path.startswith(_V1):
        return Surface("v1", raw_path.removeprefix(_V1), versions.check_v1(version), {})
    if raw_path.startswith(_DATED):
        return Surface("dated", raw_path.removeprefix(_DATED), versions.check_dated(version), {})
    project, slash, path = raw_path.removeprefix(_PROJECTS).partition("/")
    if not raw_path.startswith(_PROJECTS) or not project or not slash:
        raise resource_not_found()
    names = {"project": unquote(project)}
    return Surface("project", path, versions.check_project(version), names)
