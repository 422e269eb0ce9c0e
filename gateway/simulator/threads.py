"""Threads and their messages."""

from gateway.simulator.assistants import take_resources
from gateway.simulator.errors import backend, missing, no_such
from gateway.simulator.exchange import Call, Json, Reply, json_reply
from gateway.simulator.listing import page
from gateway.simulator.objects import Run, Thread
from gateway.simulator.schemas import check_closed
from gateway.simulator.state import Simulator
from gateway.simulator.vector_stores import add_file, find_store, open_store

# How long the vector store of a thread's attachments is kept after it was last used.
STORE_DAYS = 7
TERMINAL = frozenset({"completed", "failed", "incomplete", "cancelled", "expired"})
# Plain answers leave these out; server-sent events carry them.
_SSE_ONLY = ("status", "incomplete_details", "completed_at", "incomplete_at")


def create_thread(sim: Simulator, call: Call) -> Reply:
    """Create a thread, with its first messages if given."""
    return json_reply(open_thread(sim, call.json()).wire)


def open_thread(sim: Simulator, body: Json) -> Thread:
    """Return a new thread made from a create body.

    Raises:
        Fault: the body or one of its messages is not acceptable.
    """
    check_closed("thread", body)
    thread = Thread(
        {
            "id": sim.ids.mixed("thread_"),
            "object": "thread",
            "created_at": sim.now_s(),
            "metadata": body.get("metadata") or {},
            "tool_resources": take_resources(sim, body.get("tool_resources"), tools=[]),
        }
    )
    add_messages(sim, thread, body.get("messages") or [])
    sim.threads[thread.wire["id"]] = thread
    return thread


def get_thread(sim: Simulator, call: Call) -> Reply:
    """Answer a thread."""
    return json_reply(find_thread(sim, call).wire)


def modify_thread(sim: Simulator, call: Call) -> Reply:
    """Change a thread's metadata or tool resources."""
    thread = find_thread(sim, call)
    body = call.json()
    check_closed("thread change", body)
    if "tool_resources" in body:
        body["tool_resources"] = take_resources(sim, body["tool_resources"], tools=[])
    thread.wire.update(body)
    return json_reply(thread.wire)


def list_threads(sim: Simulator, call: Call) -> Reply:
    """List the threads; only projects can."""
    return json_reply(page(call, [thread.wire for thread in sim.threads.values()]))


def delete_thread(sim: Simulator, call: Call) -> Reply:
    """Delete a thread; a run that is under way goes on and is billed."""
    thread_id = find_thread(sim, call).wire["id"]
    del sim.threads[thread_id]
    return json_reply({"id": thread_id, "object": "thread.deleted", "deleted": True})


def find_thread(sim: Simulator, call: Call) -> Thread:
    """Return the thread the path names.

    Raises:
        Fault: 404.
    """
    thread = sim.threads.get(call.names["thread_id"])
    if thread is None:
        raise no_such("thread", call.names["thread_id"])
    return thread


def active_run(thread: Thread) -> Run | None:
    """Return the run that locks the thread, if there is one."""
    return next((run for run in thread.runs.values() if run.wire["status"] not in TERMINAL), None)


def create_message(sim: Simulator, call: Call) -> Reply:
    """Add a message, unless a run is active."""
    thread = find_thread(sim, call)
    run = active_run(thread)
    if run is not None:
        raise backend(
            f"Can't add messages to {thread.wire['id']} while a run {run.wire['id']} is active."
        )
    return json_reply(plain_message(add_messages(sim, thread, [call.json()])[0]))


def list_messages(sim: Simulator, call: Call) -> Reply:
    """List a thread's messages, of one run if asked."""
    run_id = call.query.get("run_id")
    rows = [
        plain_message(message)
        for message in find_thread(sim, call).messages.values()
        if run_id is None or message["run_id"] == run_id
    ]
    return json_reply(page(call, rows))


def get_message(sim: Simulator, call: Call) -> Reply:
    """Answer one message."""
    return json_reply(plain_message(_find_message(sim, call)))


def modify_message(sim: Simulator, call: Call) -> Reply:
    """Change a message's metadata."""
    message = _find_message(sim, call)
    body = call.json()
    check_closed("change", body)
    message.update(body)
    return json_reply(plain_message(message))


def delete_message(sim: Simulator, call: Call) -> Reply:
    """Delete a message."""
    message_id = _find_message(sim, call)["id"]
    del find_thread(sim, call).messages[message_id]
    return json_reply({"id": message_id, "object": "thread.message.deleted", "deleted": True})


def add_messages(sim: Simulator, thread: Thread, bodies: object) -> list[Json]:
    """Check all of `bodies`, then append them to the thread and return the messages.

    Raises:
        Fault: 400 or 404, one of them is not acceptable; none was added.
    """
    if not isinstance(bodies, list):
        raise backend("Invalid type for 'messages': expected an array.", param="messages")
    for body in bodies:
        _check_message(sim, body)
    added = []
    for body in bodies:
        message = new_message(
            sim,
            thread,
            at_s=sim.now_s(),
            role=body["role"],
            content=_content_of(body["content"]),
            attachments=body.get("attachments") or [],
            metadata=body.get("metadata") or {},
        )
        _attach(sim, thread, message)
        added.append(message)
    return added


def new_message(
    sim: Simulator,
    thread: Thread,
    *,
    at_s: int,
    role: str,
    content: list[Json],
    run: Json | None = None,
    attachments: list[Json] | None = None,
    metadata: Json | None = None,
) -> Json:
    """Return a new message of the thread, in the long form that events carry."""
    message: Json = {
        "id": sim.ids.mixed("msg_"),
        "object": "thread.message",
        "created_at": at_s,
        "assistant_id": run["assistant_id"] if run else None,
        "thread_id": thread.wire["id"],
        "run_id": run["id"] if run else None,
        "status": "in_progress" if run else "completed",
        "incomplete_details": None,
        "incomplete_at": None,
        "completed_at": None if run else at_s,
        "role": role,
        "content": content,
        "attachments": attachments or [],
        "metadata": metadata or {},
    }
    thread.messages[message["id"]] = message
    return message


def plain_message(message: Json) -> Json:
    """Return a message as plain answers show it."""
    return {name: value for name, value in message.items() if name not in _SSE_ONLY}


def text_of(content: object) -> str:
    """Return the text in a message's content, in any of the forms a request may give it."""
    if isinstance(content, str):
        return content
    texts = []
    for part in content if isinstance(content, list) else []:
        text = part.get("text") if isinstance(part, dict) else None
        if isinstance(text, dict):
            text = text.get("value")
        if isinstance(text, str):
            texts.append(text)
    return "\n".join(texts)


def _check_message(sim: Simulator, body: object) -> None:
    if not isinstance(body, dict):
        raise backend("Invalid type for 'message': expected an object.")
    check_closed("message", body, required=("role", "content"))
    if body["role"] not in ("user", "assistant"):
        raise backend(f"'{body['role']}' is not one of ['user', 'assistant'] - 'role'")
    for index, attachment in enumerate(body.get("attachments") or []):
        for name in ("file_id", "tools"):
            if attachment.get(name) is None:
                raise missing(f"attachments[{index}].{name}")
        sim.file(attachment["file_id"])
    for part in body["content"] if isinstance(body["content"], list) else []:
        if part.get("type") == "image_file":
            sim.file((part.get("image_file") or {}).get("file_id"))
        if part.get("type") == "text" and not isinstance(part.get("text"), str):
            raise missing("content[0].text")


def _content_of(content: object) -> list[Json]:
    if isinstance(content, str):
        return [text_part(content)]
    if not isinstance(content, list) or not content:
        raise missing("content")
    return [text_part(part["text"]) if part.get("type") == "text" else part for part in content]


def text_part(text: str) -> Json:
    """Return a text part of a message."""
    return {"type": "text", "text": {"value": text, "annotations": []}}


def _attach(sim: Simulator, thread: Thread, message: Json) -> None:
    """Let the thread's tools see the files a message brought for them."""
    resources = thread.wire["tool_resources"]
    for attachment in message["attachments"]:
        kinds = {tool.get("type") for tool in attachment["tools"]}
        if "code_interpreter" in kinds:
            interpreter = resources.setdefault("code_interpreter", {"file_ids": []})
            if attachment["file_id"] not in interpreter.setdefault("file_ids", []):
                interpreter["file_ids"].append(attachment["file_id"])
        if "file_search" in kinds:
            search = resources.setdefault("file_search", {"vector_store_ids": []})
            if not search["vector_store_ids"]:
                expiry = {"anchor": "last_active_at", "days": STORE_DAYS}
                store = open_store(sim, {"expires_after": expiry})
                search["vector_store_ids"].append(store.wire["id"])
            store = find_store(sim, search["vector_store_ids"][0])
            add_file(sim, store, attachment["file_id"])


def _find_message(sim: Simulator, call: Call) -> Json:
    message = find_thread(sim, call).messages.get(call.names["message_id"])
    if message is None:
        raise no_such("message", call.names["message_id"])
    return message
