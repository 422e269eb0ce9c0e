"""The files of a vector store, one by one and in batches; their content, and the search in them.

Source: Azure OpenAI inference specification 2025-03-01-preview; answers of the vector store
operations, 2025-09.
"""

from gateway.simulator.errors import backend, missing, no_such, no_such_file
from gateway.simulator.exchange import Call, Json, Reply, json_reply
from gateway.simulator.listing import page
from gateway.simulator.objects import FileBatch, VectorStore
from gateway.simulator.state import Simulator
from gateway.simulator.vector_stores import (
    STATUSES,
    add_file,
    check_attributes,
    count_statuses,
    live_store,
)

BATCH_FILES_MAX = 500
RESULTS_MAX = 50
RESULTS_DEFAULT = 10


def create_store_file(sim: Simulator, call: Call) -> Reply:
    """Add a file of the resource to a vector store."""
    store = live_store(sim, call)
    body = call.json()
    if body.get("file_id") is None:
        raise missing("file_id")
    return json_reply(
        add_file(
            sim,
            store,
            body["file_id"],
            attributes=body.get("attributes"),
            chunking=body.get("chunking_strategy"),
        )
    )


def list_store_files(sim: Simulator, call: Call) -> Reply:
    """List a vector store's files, of one status if asked."""
    return _page_of(call, list(live_store(sim, call).files.values()))


def get_store_file(sim: Simulator, call: Call) -> Reply:
    """Answer a file's object in a vector store."""
    return json_reply(_find_file(live_store(sim, call), call))


def modify_store_file(sim: Simulator, call: Call) -> Reply:
    """Give a file other attributes."""
    wire = _find_file(live_store(sim, call), call)
    body = call.json()
    if body.get("attributes") is None:
        raise missing("attributes")
    wire["attributes"] = check_attributes(body["attributes"])
    return json_reply(wire)


def delete_store_file(sim: Simulator, call: Call) -> Reply:
    """Take a file out of a vector store; the resource keeps it."""
    store = live_store(sim, call)
    file_id = _find_file(store, call)["id"]
    del store.files[file_id]
    return json_reply({"id": file_id, "object": "vector_store.file.deleted", "deleted": True})


def get_store_file_content(sim: Simulator, call: Call) -> Reply:
    """Answer the text that was read from a file."""
    wire = _find_file(live_store(sim, call), call)
    part = {"type": "text", "text": _text_of(sim, wire)}
    return json_reply(
        {
            "object": "vector_store.file_content.page",
            "data": [part],
            "has_more": False,
            "next_page": None,
        }
    )


def search_store(sim: Simulator, call: Call) -> Reply:
    """Answer the files that share words with the query, the best first."""
    store = live_store(sim, call)
    body = call.json()
    given = body.get("query")
    queries: list[str] = [given] if isinstance(given, str) else given or []
    if not queries:
        raise missing("query")
    most = body.get("max_num_results") or RESULTS_DEFAULT
    if not 1 <= most <= RESULTS_MAX:
        message = f"Invalid 'max_num_results': expected an integer from 1 to {RESULTS_MAX}."
        raise backend(message, param="max_num_results")
    wanted = {word for query in queries for word in query.lower().split()}
    found = []
    for wire in store.files.values():
        text = _text_of(sim, wire) if wire["status"] == "completed" else ""
        shared = wanted & set(text.lower().split())
        if shared:
            found.append(_result(sim, wire, text, len(shared) / len(wanted)))
    found.sort(key=lambda row: row["score"], reverse=True)
    return json_reply(
        {
            "object": "vector_store.search_results.page",
            "search_query": queries,
            "data": found[:most],
            "has_more": len(found) > most,
            "next_page": None,
        }
    )


def create_file_batch(sim: Simulator, call: Call) -> Reply:
    """Add many files to a vector store together."""
    store = live_store(sim, call)
    body = call.json()
    file_ids: list[str] = body.get("file_ids") or []
    if not 1 <= len(file_ids) <= BATCH_FILES_MAX:
        message = f"Invalid 'file_ids': expected 1 to {BATCH_FILES_MAX} files."
        raise backend(message, param="file_ids")
    for file_id in file_ids:
        sim.file(file_id)
    attributes = check_attributes(body.get("attributes"))
    for file_id in file_ids:
        chunking = body.get("chunking_strategy")
        add_file(sim, store, file_id, attributes=attributes, chunking=chunking)
    wire: Json = {
        "id": sim.ids.mixed("vsfb_"),
        "object": "vector_store.file_batch",
        "created_at": sim.now_s(),
        "vector_store_id": store.wire["id"],
    }
    batch = store.batches[wire["id"]] = FileBatch(wire, list(dict.fromkeys(file_ids)))
    return json_reply(_show_batch(store, batch))


def get_file_batch(sim: Simulator, call: Call) -> Reply:
    """Answer a batch of files as it stands now."""
    store = live_store(sim, call)
    return json_reply(_show_batch(store, _find_batch(store, call)))


def cancel_file_batch(sim: Simulator, call: Call) -> Reply:
    """Stop taking in the files of a batch that are under way."""
    store = live_store(sim, call)
    batch = _find_batch(store, call)
    for file_id in batch.file_ids:
        wire = store.files.get(file_id)
        if wire is not None and wire["status"] == "in_progress":
            wire["status"] = "cancelled"
    return json_reply(_show_batch(store, batch))


def list_file_batch_files(sim: Simulator, call: Call) -> Reply:
    """List the files of a batch, of one status if asked."""
    store = live_store(sim, call)
    batch = _find_batch(store, call)
    files = [store.files[file_id] for file_id in batch.file_ids if file_id in store.files]
    return _page_of(call, files)


def _show_batch(store: VectorStore, batch: FileBatch) -> Json:
    counts = count_statuses(store, batch.file_ids)
    status = "completed"
    if counts["in_progress"]:
        status = "in_progress"
    elif counts["cancelled"]:
        status = "cancelled"
    return {**batch.wire, "status": status, "file_counts": counts}


def _page_of(call: Call, files: list[Json]) -> Reply:
    status = call.query.get("filter")
    if status is not None and status not in STATUSES:
        raise backend(f"'{status}' is not one of {list(STATUSES)} - 'filter'", param="filter")
    rows = [wire for wire in files if status is None or wire["status"] == status]
    return json_reply(page(call, rows))


def _find_file(store: VectorStore, call: Call) -> Json:
    wire = store.files.get(call.names["file_id"])
    if wire is None:
        raise no_such_file(call.names["file_id"])
    return wire


def _find_batch(store: VectorStore, call: Call) -> FileBatch:
    batch = store.batches.get(call.names["batch_id"])
    if batch is None:
        raise no_such("file batch", call.names["batch_id"])
    return batch


def _text_of(sim: Simulator, wire: Json) -> str:
    stored = sim.files.get(wire["id"])
    return stored.content.decode("utf-8", "replace") if stored is not None else ""


def _result(sim: Simulator, wire: Json, text: str, score: float) -> Json:
    return {
        "file_id": wire["id"],
        "filename": sim.files[wire["id"]].wire["filename"],
        "score": score,
        "attributes": wire["attributes"],
        "content": [{"type": "text", "text": text}],
    }
