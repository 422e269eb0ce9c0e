"""Files of the resource: upload, list, get, delete, content.

Every holder of the key sees every file, as on Azure. Source: Azure OpenAI authoring specification
(dated upload answers 201 with Location); `/openai/v1` specification (200).
"""

from urllib.parse import quote

from gateway.simulator.errors import backend, front_door, missing
from gateway.simulator.exchange import Call, Json, Reply, json_reply
from gateway.simulator.forms import Part
from gateway.simulator.listing import page
from gateway.simulator.state import Simulator

UPLOAD_PURPOSES = frozenset({"assistants", "batch", "fine-tune", "evals"})
FILE_BYTES_MAX = 512 * 1024 * 1024
_EXPIRY_FIELDS = ("expires_after[seconds]", "seconds")
_FIELDS = frozenset(
    {"file", "purpose", "expires_after[anchor]", "expires_after[seconds]", "anchor", "seconds"}
)


def upload_file(sim: Simulator, call: Call) -> Reply:
    """Store an uploaded file."""
    form = call.form()
    # The form of projects has the file's name as a field too (azure-ai-agents 1.1.0).
    fields = _FIELDS | {"filename"} if call.surface == "project" else _FIELDS
    unexpected = next((name for name in form if name not in fields), None)
    if unexpected is not None:
        raise backend(f"Additional properties are not allowed ('{unexpected}' was unexpected)")
    part = read_file_part(form, untyped=call.surface == "project")
    purpose = form["purpose"].text if "purpose" in form else ""
    if purpose not in UPLOAD_PURPOSES:
        raise front_door(400, "invalidPayload", "Invalid value for purpose.")
    stored = sim.store_file(
        part.content,
        filename=part.filename or "",
        purpose=purpose,
        content_type=part.content_type or "application/octet-stream",
        surface=call.surface,
        at_s=sim.now_s(),
        expires_in_s=_expires_in_s(form),
    )
    if call.surface != "dated":
        return json_reply(stored.wire)
    where = call.address_of(f"/openai/files/{stored.wire['id']}")
    return json_reply(stored.wire, status=201, headers={"location": where})


def read_file_part(form: dict[str, Part], *, untyped: bool = False) -> Part:
    """Return the form's `file` part, which needs no content type if it may be `untyped`.

    Projects take files without one: Microsoft's own client sends none (azure-ai-agents 1.1.0).

    Raises:
        Fault: 400, it is absent or has no content type; 413, it is larger than 512 MB.
    """
    part = form.get("file")
    if part is None or not part.filename:
        raise missing("file")
    if part.content_type is None and not untyped:
        message = "The file has no or an empty content type specified"
        raise front_door(400, "invalidPayload", message)
    if len(part.content) > FILE_BYTES_MAX:
        raise front_door(413, "invalidPayload", "The file is larger than 512 MB")
    return part


def list_files(sim: Simulator, call: Call) -> Reply:
    """List files, of one purpose if asked."""
    purpose = call.query.get("purpose")
    rows = [
        stored.wire
        for stored in sim.live_files()
        if purpose is None or stored.wire["purpose"] == purpose
    ]
    listed: Json = page(call, rows, limit_default=10_000, limit_max=10_000)
    return json_reply(listed if call.is_v1 else {"object": "list", "data": listed["data"]})


def get_file(sim: Simulator, call: Call) -> Reply:
    """Answer a file's object."""
    return json_reply(sim.file(call.names["file_id"]).wire)


def delete_file(sim: Simulator, call: Call) -> Reply:
    """Delete a file."""
    file_id = sim.file(call.names["file_id"]).wire["id"]
    del sim.files[file_id]
    return json_reply({"object": "file", "deleted": True, "id": file_id})


def get_file_content(sim: Simulator, call: Call) -> Reply:
    """Answer a file's content."""
    stored = sim.file(call.names["file_id"])
    name = quote(stored.wire["filename"])
    disposition = f"attachment; filename=\"{name}\"; filename*=UTF-8''{name}"
    return Reply(
        stored.content,
        content_type="application/octet-stream",
        headers={"content-disposition": disposition},
    )


def _expires_in_s(form: dict[str, Part]) -> int | None:
    given = next((form[name].text for name in _EXPIRY_FIELDS if name in form), None)
    if given is None:
        return None
    if not given.isascii() or not given.isdigit() or not 1_209_600 <= int(given) <= 2_592_000:
        raise front_door(400, "invalidPayload", "Invalid value for expires_after.")
    return int(given)
