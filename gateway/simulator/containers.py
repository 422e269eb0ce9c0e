"""Containers: sandboxes for code interpreter, with files, that expire after 20 idle minutes.

Source: Azure OpenAI `/openai/v1` specification (the shape); OpenAI code interpreter guide (any
operation on a container, a read included, refreshes it; what has expired cannot be revived).
"""

from gateway.simulator.errors import Fault, backend, missing
from gateway.simulator.exchange import Call, Json, Reply, json_reply
from gateway.simulator.files import read_file_part
from gateway.simulator.listing import page
from gateway.simulator.objects import Container
from gateway.simulator.state import Simulator

IDLE_MINUTES = 20
FILES_MAX = 50


def create_container(sim: Simulator, call: Call) -> Reply:
    """Create a container, which opens a session at once."""
    body = call.json()
    if not isinstance(body.get("name"), str):
        raise missing("name")
    expiry = body.get("expires_after") or {}
    minutes = expiry.get("minutes", IDLE_MINUTES)
    if not isinstance(minutes, int) or not 1 <= minutes <= IDLE_MINUTES:
        message = f"Invalid 'expires_after.minutes': expected an integer from 1 to {IDLE_MINUTES}."
        raise backend(message, param="expires_after.minutes")
    file_ids = body.get("file_ids") or []
    memory = read_memory(sim, body)
    container = open_container(sim, body["name"], file_ids, minutes=minutes, memory=memory)
    return json_reply(container.wire)


def read_memory(sim: Simulator, body: Json) -> str | None:
    """Return the memory tier a container is to have, None for the plain gigabyte.

    Raises:
        Fault: 400, the resource's terms know no such tier.
    """
    memory = body.get("memory_limit")
    if memory in (None, "1g"):
        return None
    if memory not in sim.config.session_terms["container"].at(sim.now_s()).memory:
        raise backend(f"Unknown value for 'memory_limit': '{memory}'.", param="memory_limit")
    return str(memory)


def open_container(
    sim: Simulator,
    name: str,
    file_ids: list[str],
    *,
    minutes: int = IDLE_MINUTES,
    memory: str | None = None,
) -> Container:
    """Return a new container with copies of these files; its session is charged now.

    Raises:
        Fault: 404, a file does not exist; 400, there are more than 50.
    """
    if len(file_ids) > FILES_MAX:
        raise backend(f"A container takes at most {FILES_MAX} files.", param="file_ids")
    stored = [sim.file(file_id) for file_id in file_ids]
    now_s = sim.now_s()
    wire: Json = {
        "id": sim.ids.hexadecimal("cntr_"),
        "object": "container",
        "created_at": now_s,
        "status": "running",
        "expires_after": {"anchor": "last_active_at", "minutes": minutes},
        "name": name,
    }
    if memory is not None:
        wire["memory_limit"] = memory
    container = Container(wire, idle_s=minutes * 60, last_active_s=now_s)
    for file in stored:
        keep_file(sim, container, file.wire["filename"], file.content, source="user")
    sim.containers[wire["id"]] = container
    sim.invoice.ask("container", wire["id"], at_s=now_s, memory=memory)
    return container


def keep_file(
    sim: Simulator, container: Container, filename: str, content: bytes, *, source: str
) -> Json:
    """Put a file into a container and return its object; without a name it is called by its id."""
    file_id = sim.ids.hexadecimal("cfile_")
    file: Json = {
        "id": file_id,
        "object": "container.file",
        "created_at": sim.now_s(),
        "bytes": len(content),
        "container_id": container.wire["id"],
        "path": f"/mnt/data/{filename or file_id + '.png'}",
        "source": source,
    }
    container.files[file_id] = file
    container.contents[file_id] = content
    return file


def use_container(sim: Simulator, container_id: object) -> Container:
    """Return a container that is alive, whose idle time starts anew.

    Raises:
        Fault: 404, there is none of that id or it has expired.
    """
    container = live_container(sim, container_id)
    if container is None:
        raise _not_found(container_id)
    container.last_active_s = sim.now_s()
    sim.invoice.touch("container", container.wire["id"], at_s=sim.now_s())
    return container


def live_container(sim: Simulator, container_id: object) -> Container | None:
    """Return a container that exists and has not expired, or None; looking does not refresh it."""
    container = sim.containers.get(container_id) if isinstance(container_id, str) else None
    if container is None or sim.now_s() >= container.last_active_s + container.idle_s:
        return None
    return container


def list_containers(sim: Simulator, call: Call) -> Reply:
    """List the containers that are alive."""
    alive = [
        container.wire
        for container_id, container in sim.containers.items()
        if live_container(sim, container_id) is not None
    ]
    return json_reply(page(call, alive))


def get_container(sim: Simulator, call: Call) -> Reply:
    """Answer a container."""
    return json_reply(use_container(sim, call.names["container_id"]).wire)


def delete_container(sim: Simulator, call: Call) -> Reply:
    """Delete a container; what it cost stays on the invoice."""
    container_id = use_container(sim, call.names["container_id"]).wire["id"]
    del sim.containers[container_id]
    return json_reply({"id": container_id, "object": "container.deleted", "deleted": True})


def create_container_file(sim: Simulator, call: Call) -> Reply:
    """Put a file into a container: an uploaded one, or a copy of one the resource has."""
    container = use_container(sim, call.names["container_id"])
    if call.received.content_type.lower().startswith("multipart/"):
        part = read_file_part(call.form())
        return json_reply(
            keep_file(sim, container, part.filename or "", part.content, source="user")
        )
    stored = sim.file(call.json().get("file_id"))
    filename = stored.wire["filename"]
    return json_reply(keep_file(sim, container, filename, stored.content, source="user"))


def list_container_files(sim: Simulator, call: Call) -> Reply:
    """List a container's files."""
    container = use_container(sim, call.names["container_id"])
    return json_reply(page(call, list(container.files.values())))


def get_container_file(sim: Simulator, call: Call) -> Reply:
    """Answer a container file's object."""
    return json_reply(_find_file(sim, call)[1])


def delete_container_file(sim: Simulator, call: Call) -> Reply:
    """Delete a container file."""
    container, file = _find_file(sim, call)
    del container.files[file["id"]]
    del container.contents[file["id"]]
    return json_reply({"id": file["id"], "object": "container.file.deleted", "deleted": True})


def get_container_file_content(sim: Simulator, call: Call) -> Reply:
    """Answer a container file's content."""
    container, file = _find_file(sim, call)
    return Reply(container.contents[file["id"]], content_type="application/octet-stream")


def _find_file(sim: Simulator, call: Call) -> tuple[Container, Json]:
    container = use_container(sim, call.names["container_id"])
    file = container.files.get(call.names["file_id"])
    if file is None:
        message = f"Container file with id '{call.names['file_id']}' not found."
        raise backend(message, status=404)
    return container, file


def _not_found(container_id: object) -> Fault:
    return backend(f"Container with id '{container_id}' not found.", status=404)
