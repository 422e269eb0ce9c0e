"""Vector stores: what file search looks into, with the files each was given.

A file is taken in as time passes: `in_progress` for as long as a run takes, then `completed`, or
`failed` if file search cannot read its kind. A store shows how its files stand; it expires some
days after it was last used, if it was told to.

Source: Azure OpenAI inference specification 2025-03-01-preview and `/openai/v1` specification;
answers of the vector store operations, 2025-09; the message of an unsupported file as users have
reported it from Azure.
"""

from collections import Counter
from functools import partial

from gateway.simulator.clock import MICROSECONDS
from gateway.simulator.errors import backend, missing, no_such_store
from gateway.simulator.exchange import Call, Json, Reply, json_reply
from gateway.simulator.listing import page
from gateway.simulator.objects import VectorStore
from gateway.simulator.state import Simulator

ATTRIBUTES_MAX = 16
DAY_S = 86_400
OVERHEAD_BYTES = 1024
READABLE = (
    ".c, .cpp, .cs, .css, .doc, .docx, .go, .html, .java, .js, .json, .md, .pdf, .php, .pptx, "
    ".py, .rb, .sh, .tex, .ts, .txt"
)
_CHUNKING: Json = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400},
}
STATUSES = ("in_progress", "completed", "failed", "cancelled")


def create_store(sim: Simulator, call: Call) -> Reply:
    """Create a vector store, with its first files if given."""
    store = open_store(sim, call.json())
    return json_reply(show_store(sim, store))


def open_store(sim: Simulator, body: Json) -> VectorStore:
    """Return a new vector store made from a create body.

    Raises:
        Fault: 404, a file does not exist; 400, the expiry is none.
    """
    file_ids = body.get("file_ids") or []
    for file_id in file_ids:
        sim.file(file_id)
    expiry = _expiry_of(body)
    store = VectorStore(
        {
            "id": sim.ids.mixed("vs_"),
            "object": "vector_store",
            "created_at": sim.now_s(),
            "name": body.get("name"),
            "usage_bytes": 0,
            "expires_after": expiry,
            "last_active_at": sim.now_s(),
            "metadata": body.get("metadata") or {},
        }
    )
    sim.vector_stores[store.wire["id"]] = store
    for file_id in file_ids:
        add_file(sim, store, file_id, chunking=body.get("chunking_strategy"))
    return store


def list_stores(sim: Simulator, call: Call) -> Reply:
    """List the vector stores."""
    return json_reply(page(call, [show_store(sim, store) for store in sim.vector_stores.values()]))


def get_store(sim: Simulator, call: Call) -> Reply:
    """Answer a vector store."""
    return json_reply(show_store(sim, find_store(sim, call.names["vector_store_id"])))


def modify_store(sim: Simulator, call: Call) -> Reply:
    """Change a vector store's name, metadata or expiry."""
    store = find_store(sim, call.names["vector_store_id"])
    body = call.json()
    if "expires_after" in body:
        body["expires_after"] = _expiry_of(body)
    known = ("name", "metadata", "expires_after")
    store.wire.update({name: body[name] for name in known if name in body})
    store.wire["last_active_at"] = sim.now_s()
    return json_reply(show_store(sim, store))


def delete_store(sim: Simulator, call: Call) -> Reply:
    """Delete a vector store; its files stay with the resource."""
    store_id = find_store(sim, call.names["vector_store_id"]).wire["id"]
    del sim.vector_stores[store_id]
    return json_reply({"id": store_id, "object": "vector_store.deleted", "deleted": True})


def find_store(sim: Simulator, store_id: object) -> VectorStore:
    """Return a vector store, expired or not.

    Raises:
        Fault: 404.
    """
    store = sim.vector_stores.get(store_id) if isinstance(store_id, str) else None
    if store is None:
        raise no_such_store(str(store_id))
    return store


def live_store(sim: Simulator, call: Call) -> VectorStore:
    """Return the vector store the path names, which is used now.

    Raises:
        Fault: 404, there is none; 400, it has expired.
    """
    store = find_store(sim, call.names["vector_store_id"])
    if show_store(sim, store)["status"] == "expired":
        raise backend(f"Vector store {store.wire['id']} has expired.")
    store.wire["last_active_at"] = sim.now_s()
    return store


def show_store(sim: Simulator, store: VectorStore) -> Json:
    """Return a vector store as it stands now."""
    counts = count_statuses(store, list(store.files))
    expiry = store.wire["expires_after"]
    expires_at = expiry and store.wire["last_active_at"] + expiry["days"] * DAY_S
    status = "in_progress" if counts["in_progress"] else "completed"
    if expires_at is not None and sim.now_s() >= expires_at:
        status = "expired"
    usage_bytes = sum(file["usage_bytes"] for file in store.files.values())
    shown = {"file_counts": counts, "status": status, "expires_at": expires_at}
    return {**store.wire, **shown, "usage_bytes": usage_bytes}


def count_statuses(store: VectorStore, file_ids: list[str]) -> Json:
    """Return how many of these files stand at which status; one that was removed is not counted."""
    here = [store.files[file_id] for file_id in file_ids if file_id in store.files]
    counts = Counter(file["status"] for file in here)
    return {**{status: counts[status] for status in STATUSES}, "total": len(here)}


def add_file(
    sim: Simulator,
    store: VectorStore,
    file_id: str,
    *,
    attributes: Json | None = None,
    chunking: Json | None = None,
) -> Json:
    """Begin to take a file into a store, and return its object there.

    Raises:
        Fault: 404, the file does not exist; 400, the attributes are none.
    """
    stored = sim.file(file_id)
    wire: Json = {
        "id": file_id,
        "object": "vector_store.file",
        "usage_bytes": 0,
        "created_at": sim.now_s(),
        "vector_store_id": store.wire["id"],
        "status": "in_progress",
        "last_error": None,
        "chunking_strategy": _chunking_of(chunking),
        "attributes": check_attributes(attributes),
    }
    store.files[file_id] = wire
    suffix = _suffix_of(stored.wire["filename"])
    due_us = sim.present_us + round(sim.config.run_s * MICROSECONDS)
    sim.at(due_us, partial(_take_in, wire, suffix, len(stored.content)))
    return wire


def check_attributes(given: Json | None) -> Json:
    """Return a file's attributes.

    Raises:
        Fault: 400, there are more than 16 or a value is no text, number or truth value.
    """
    attributes = given or {}
    plain = all(isinstance(value, str | int | float) for value in attributes.values())
    if len(attributes) > ATTRIBUTES_MAX or not plain:
        message = f"Invalid 'attributes': at most {ATTRIBUTES_MAX} texts, numbers or booleans."
        raise backend(message, param="attributes")
    return dict(attributes)


def _take_in(wire: Json, suffix: str, size: int, _at_us: int) -> None:
    if wire["status"] != "in_progress":
        return
    if suffix in READABLE.split(", "):
        wire.update(status="completed", usage_bytes=size + OVERHEAD_BYTES)
        return
    message = (
        f"Files with extensions [{suffix or 'none'}] are not supported for retrieval. "
        f"Supported file types include: [{READABLE}]"
    )
    wire.update(status="failed", last_error={"code": "unsupported_file", "message": message})


def _suffix_of(filename: str) -> str:
    stem, dot, suffix = filename.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def _chunking_of(given: Json | None) -> Json:
    return given if given and given.get("type") == "static" else _CHUNKING


def _expiry_of(body: Json) -> Json | None:
    expiry = body.get("expires_after")
    if expiry is None:
        return None
    if expiry.get("anchor") != "last_active_at":
        raise missing("expires_after.anchor")
    days = expiry.get("days")
    if not isinstance(days, int) or not 1 <= days <= 365:
        message = "Invalid 'expires_after.days': expected an integer from 1 to 365."
        raise backend(message, param="expires_after.days")
    return {"anchor": "last_active_at", "days": days}
