"""Uploads: a file announced first, sent in parts, and put together at the end.

What was announced (bytes, type, purpose, name) must hold at the end; the order of the parts is
told only then. Nothing is a file before `complete`.

Source: Azure OpenAI authoring specification 2024-10-21 (`/uploads`, 9 GB in all); answers of the
upload operations, 2025-09 (`expires_at` is an hour after creation); OpenAI reference (64 MB a
part).
"""

import hashlib

from gateway.simulator.errors import backend, front_door, missing, no_such
from gateway.simulator.exchange import Call, Json, Reply, json_reply
from gateway.simulator.files import UPLOAD_PURPOSES
from gateway.simulator.objects import Upload
from gateway.simulator.state import Simulator

UPLOAD_BYTES_MAX = 9 * 1024**3
PART_BYTES_MAX = 64 * 1024**2
EXPIRES_S = 3600
_REQUIRED = ("filename", "purpose", "bytes", "mime_type")


def create_upload(sim: Simulator, call: Call) -> Reply:
    """Announce a file."""
    body = call.json()
    for name in _REQUIRED:
        if body.get(name) is None:
            raise missing(name)
    if body["purpose"] not in UPLOAD_PURPOSES:
        raise front_door(400, "invalidPayload", "Invalid value for purpose.")
    if not 1 <= body["bytes"] <= UPLOAD_BYTES_MAX:
        message = f"Invalid 'bytes': expected an integer from 1 to {UPLOAD_BYTES_MAX}."
        raise backend(message, param="bytes")
    wire: Json = {
        "id": sim.ids.mixed("upload_"),
        "object": "upload",
        "bytes": body["bytes"],
        "created_at": sim.now_s(),
        "filename": body["filename"],
        "purpose": body["purpose"],
        "status": "pending",
        "expires_at": sim.now_s() + EXPIRES_S,
    }
    sim.uploads[wire["id"]] = Upload(wire, body["mime_type"], call.surface)
    return json_reply(wire)


def add_part(sim: Simulator, call: Call) -> Reply:
    """Take in one part, which may come in any order and at the same time as others."""
    upload = _find_pending(sim, call)
    data = call.form().get("data")
    if data is None:
        raise missing("data")
    if len(data.content) > PART_BYTES_MAX:
        raise front_door(413, "invalidPayload", "The part is larger than 64 MB")
    part_id = sim.ids.mixed("part_")
    upload.parts[part_id] = data.content
    return json_reply(
        {
            "id": part_id,
            "object": "upload.part",
            "created_at": sim.now_s(),
            "upload_id": upload.wire["id"],
        }
    )


def complete_upload(sim: Simulator, call: Call) -> Reply:
    """Put the parts together in the order given; the file exists from now on."""
    upload = _find_pending(sim, call)
    body = call.json()
    content = _content_of(upload, body)
    stored = sim.store_file(
        content,
        filename=upload.wire["filename"],
        purpose=upload.wire["purpose"],
        content_type=upload.mime_type,
        surface=upload.surface,
        at_s=sim.now_s(),
    )
    upload.wire["status"] = "completed"
    upload.wire["file"] = stored.wire
    upload.parts.clear()
    return json_reply(upload.wire)


def cancel_upload(sim: Simulator, call: Call) -> Reply:
    """Give up an upload; no part may follow."""
    upload = _find_pending(sim, call)
    upload.wire["status"] = "cancelled"
    upload.parts.clear()
    return json_reply(upload.wire)


def _content_of(upload: Upload, body: Json) -> bytes:
    part_ids: list[str] = body.get("part_ids") or []
    if not part_ids:
        raise missing("part_ids")
    unknown = next((part_id for part_id in part_ids if part_id not in upload.parts), None)
    if unknown is not None:
        raise backend(f"No upload part found with id '{unknown}'.", param="part_ids")
    if len(set(part_ids)) != len(part_ids):
        raise backend("A part is given twice.", param="part_ids")
    content = b"".join(upload.parts[part_id] for part_id in part_ids)
    declared = upload.wire["bytes"]
    if len(content) != declared:
        raise backend(f"Expected {declared} bytes, but the parts have {len(content)}.")
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if body.get("md5") not in (None, digest):
        raise backend("The md5 checksum of the parts is another one.", param="md5")
    return content


def _find_pending(sim: Simulator, call: Call) -> Upload:
    upload = sim.uploads.get(call.names["upload_id"])
    if upload is None:
        raise no_such("upload", call.names["upload_id"])
    if upload.wire["status"] == "pending" and sim.now_s() >= upload.wire["expires_at"]:
        upload.wire["status"] = "expired"
        upload.parts.clear()
    if upload.wire["status"] != "pending":
        raise backend(f"Upload {upload.wire['id']} is {upload.wire['status']}, not pending.")
    return upload
