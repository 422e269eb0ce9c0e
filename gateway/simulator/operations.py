"""The operations of the simulated resource: method, path template, handler, on which surfaces."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from gateway.simulator import (
    assistants,
    batches,
    chat,
    completions,
    containers,
    conversations,
    embeddings,
    files,
    models,
    responses,
    runs,
    store_files,
    threads,
    uploads,
    vector_stores,
)
from gateway.simulator.errors import resource_not_found
from gateway.simulator.exchange import Call, Reply
from gateway.simulator.state import Simulator
from gateway.simulator.versions import (
    check_assistants,
    check_batches,
    check_responses,
    check_searches,
    check_uploads,
)

Handler = Callable[[Simulator, Call], Reply]
Gate = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Operation:
    """One row: where it is served and which api-versions have it."""

    method: str
    template: tuple[str, ...]
    handler: Handler
    surfaces: frozenset[str]
    gate: Gate | None = None


def match(method: str, raw_path: str, surface: str) -> tuple[Operation, Mapping[str, str]]:
    """Return the operation of a path below its surface's root, and the names in the path.

    Segments are told apart before they are decoded, so that an encoded slash stays in its segment.

    Raises:
        Fault: 404, no operation is served there.
    """
    segments = [unquote(segment) for segment in raw_path.strip("/").split("/")]
    for operation in OPERATIONS:
        if operation.method != method or surface not in operation.surfaces:
            continue
        names = _names_in(operation.template, segments)
        if names is not None:
            return operation, names
    raise resource_not_found()


def _names_in(template: tuple[str, ...], segments: list[str]) -> Mapping[str, str] | None:
    if len(template) != len(segments):
        return None
    names: dict[str, str] = {}
    for wanted, given in zip(template, segments, strict=True):
        if wanted.startswith("{"):
            names[wanted[1:-1]] = given
        elif wanted != given:
            return None
    return names


def _rows(rows: Mapping[str, Handler], *surfaces: str, gate: Gate | None = None) -> list[Operation]:
    made = []
    for route, handler in rows.items():
        method, path = route.split(" ")
        template = tuple(path.strip("/").split("/"))
        made.append(Operation(method, template, handler, frozenset(surfaces), gate))
    return made


def _under(root: str, rows: Mapping[str, Handler]) -> dict[str, Handler]:
    return {route.replace(" ", f" {root}", 1): handler for route, handler in rows.items()}


_FILES: Mapping[str, Handler] = {
    "POST /files": files.upload_file,
    "GET /files": files.list_files,
    "GET /files/{file_id}": files.get_file,
    "DELETE /files/{file_id}": files.delete_file,
    "GET /files/{file_id}/content": files.get_file_content,
}
_ASSISTANTS: Mapping[str, Handler] = {
    "POST /assistants": assistants.create_assistant,
    "GET /assistants": assistants.list_assistants,
    "GET /assistants/{assistant_id}": assistants.get_assistant,
    "POST /assistants/{assistant_id}": assistants.modify_assistant,
    "DELETE /assistants/{assistant_id}": assistants.delete_assistant,
    "POST /threads": threads.create_thread,
    "POST /threads/runs": runs.create_thread_and_run,
    "GET /threads/{thread_id}": threads.get_thread,
    "POST /threads/{thread_id}": threads.modify_thread,
    "DELETE /threads/{thread_id}": threads.delete_thread,
    "POST /threads/{thread_id}/messages": threads.create_message,
    "GET /threads/{thread_id}/messages": threads.list_messages,
    "GET /threads/{thread_id}/messages/{message_id}": threads.get_message,
    "POST /threads/{thread_id}/messages/{message_id}": threads.modify_message,
    "DELETE /threads/{thread_id}/messages/{message_id}": threads.delete_message,
    "POST /threads/{thread_id}/runs": runs.create_run,
    "GET /threads/{thread_id}/runs": runs.list_runs,
    "GET /threads/{thread_id}/runs/{run_id}": runs.get_run,
    "POST /threads/{thread_id}/runs/{run_id}": runs.modify_run,
    "POST /threads/{thread_id}/runs/{run_id}/cancel": runs.cancel_run,
    "POST /threads/{thread_id}/runs/{run_id}/submit_tool_outputs": runs.submit_tool_outputs,
    "GET /threads/{thread_id}/runs/{run_id}/steps": runs.list_steps,
    "GET /threads/{thread_id}/runs/{run_id}/steps/{step_id}": runs.get_step,
}
_DEPLOYMENTS: Mapping[str, Handler] = {
    "POST /deployments/{deployment}/chat/completions": chat.create_chat_completion,
    "POST /deployments/{deployment}/completions": completions.create_completion,
    "POST /deployments/{deployment}/embeddings": embeddings.create_embeddings,
}
_MODELS_IN_BODY: Mapping[str, Handler] = {
    "POST /chat/completions": chat.create_chat_completion,
    "POST /completions": completions.create_completion,
    "POST /embeddings": embeddings.create_embeddings,
}
_RESPONSES: Mapping[str, Handler] = {
    "POST /responses": responses.create_response,
    "GET /responses/{response_id}": responses.get_response,
    "DELETE /responses/{response_id}": responses.delete_response,
    "POST /responses/{response_id}/cancel": responses.cancel_response,
    "GET /responses/{response_id}/input_items": responses.list_input_items,
    "POST /containers": containers.create_container,
    "GET /containers": containers.list_containers,
    "GET /containers/{container_id}": containers.get_container,
    "DELETE /containers/{container_id}": containers.delete_container,
    "POST /containers/{container_id}/files": containers.create_container_file,
    "GET /containers/{container_id}/files": containers.list_container_files,
    "GET /containers/{container_id}/files/{file_id}": containers.get_container_file,
    "DELETE /containers/{container_id}/files/{file_id}": containers.delete_container_file,
    "GET /containers/{container_id}/files/{file_id}/content": (
        containers.get_container_file_content
    ),
}

_PROJECT_THREADS: Mapping[str, Handler] = {"GET /threads": threads.list_threads}
_STORES: Mapping[str, Handler] = {
    "POST /vector_stores": vector_stores.create_store,
    "GET /vector_stores": vector_stores.list_stores,
    "GET /vector_stores/{vector_store_id}": vector_stores.get_store,
    "POST /vector_stores/{vector_store_id}": vector_stores.modify_store,
    "DELETE /vector_stores/{vector_store_id}": vector_stores.delete_store,
    **_under(
        "/vector_stores/{vector_store_id}",
        {
            "POST /files": store_files.create_store_file,
            "GET /files": store_files.list_store_files,
            "GET /files/{file_id}": store_files.get_store_file,
            "DELETE /files/{file_id}": store_files.delete_store_file,
            "POST /file_batches": store_files.create_file_batch,
            "GET /file_batches/{batch_id}": store_files.get_file_batch,
            "POST /file_batches/{batch_id}/cancel": store_files.cancel_file_batch,
            "GET /file_batches/{batch_id}/files": store_files.list_file_batch_files,
        },
    ),
}
_SEARCHES: Mapping[str, Handler] = _under(
    "/vector_stores/{vector_store_id}",
    {
        "POST /files/{file_id}": store_files.modify_store_file,
        "GET /files/{file_id}/content": store_files.get_store_file_content,
        "POST /search": store_files.search_store,
    },
)
_UPLOADS: Mapping[str, Handler] = {
    "POST /uploads": uploads.create_upload,
    "POST /uploads/{upload_id}/parts": uploads.add_part,
    "POST /uploads/{upload_id}/complete": uploads.complete_upload,
    "POST /uploads/{upload_id}/cancel": uploads.cancel_upload,
}
_CONVERSATIONS: Mapping[str, Handler] = {
    "POST /conversations": conversations.create_conversation,
    "GET /conversations/{conversation_id}": conversations.get_conversation,
    "POST /conversations/{conversation_id}": conversations.modify_conversation,
    "DELETE /conversations/{conversation_id}": conversations.delete_conversation,
    "POST /conversations/{conversation_id}/items": conversations.create_items,
    "GET /conversations/{conversation_id}/items": conversations.list_items,
    "GET /conversations/{conversation_id}/items/{item_id}": conversations.get_item,
    "DELETE /conversations/{conversation_id}/items/{item_id}": conversations.delete_item,
}
_BATCHES: Mapping[str, Handler] = {
    "POST /batches": batches.create_batch,
    "GET /batches": batches.list_batches,
    "GET /batches/{batch_id}": batches.get_batch,
    "POST /batches/{batch_id}/cancel": batches.cancel_batch,
}
_MODELS: Mapping[str, Handler] = {
    "GET /models": models.list_models,
    "GET /models/{model}": models.get_model,
}

OPERATIONS: tuple[Operation, ...] = (
    *_rows(_FILES, "dated", "v1", "project"),
    *_rows(_ASSISTANTS, "dated", "project", gate=check_assistants),
    *_rows(_PROJECT_THREADS, "project"),
    *_rows(_STORES, "dated", "v1", "project", gate=check_assistants),
    *_rows(_SEARCHES, "dated", "v1", gate=check_searches),
    *_rows(_DEPLOYMENTS, "dated"),
    *_rows(_MODELS_IN_BODY, "v1"),
    *_rows(_RESPONSES, "dated", "v1", gate=check_responses),
    *_rows(_UPLOADS, "dated", "v1", gate=check_uploads),
    *_rows(_CONVERSATIONS, "v1"),
    *_rows(_BATCHES, "dated", "v1", gate=check_batches),
    *_rows(_MODELS, "dated", "v1"),
)
