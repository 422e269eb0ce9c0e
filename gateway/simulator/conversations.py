"""Conversations: items that outlive a response, so that the next one can go on from them.

A response that names a conversation reads its items first and adds its own input and output when
it has ended. The container of a code-interpreter call that stands among the items is used again
while it is alive.

Source: OpenAI conversations reference, 2025-09; Azure OpenAI serves it under `/openai/v1`.
"""

from gateway.simulator.errors import backend, no_such
from gateway.simulator.exchange import Call, Json, Reply, json_reply
from gateway.simulator.listing import page
from gateway.simulator.objects import Conversation
from gateway.simulator.state import Simulator

ITEMS_MAX = 20


def create_conversation(sim: Simulator, call: Call) -> Reply:
    """Create a conversation, with its first items if given."""
    body = call.json()
    items = read_items(sim, body.get("items") or [])
    conversation = Conversation(
        {
            "id": sim.ids.hexadecimal("conv_"),
            "object": "conversation",
            "created_at": sim.now_s(),
            "metadata": body.get("metadata") or {},
        }
    )
    add_items(conversation, items)
    sim.conversations[conversation.wire["id"]] = conversation
    return json_reply(conversation.wire)


def get_conversation(sim: Simulator, call: Call) -> Reply:
    """Answer a conversation."""
    return json_reply(_find(sim, call).wire)


def modify_conversation(sim: Simulator, call: Call) -> Reply:
    """Change a conversation's metadata."""
    conversation = _find(sim, call)
    conversation.wire["metadata"] = call.json().get("metadata") or {}
    return json_reply(conversation.wire)


def delete_conversation(sim: Simulator, call: Call) -> Reply:
    """Delete a conversation; the responses in it stay."""
    conversation_id = _find(sim, call).wire["id"]
    del sim.conversations[conversation_id]
    deleted = {"object": "conversation.deleted", "deleted": True}
    return json_reply({"id": conversation_id, **deleted})


def create_items(sim: Simulator, call: Call) -> Reply:
    """Add items to a conversation and answer them."""
    conversation = _find(sim, call)
    given = call.json().get("items") or []
    if not 1 <= len(given) <= ITEMS_MAX:
        message = f"Invalid 'items': expected 1 to {ITEMS_MAX} items."
        raise backend(message, param="items")
    items = read_items(sim, given)
    add_items(conversation, items)
    listed = {"first_id": items[0]["id"], "last_id": items[-1]["id"], "has_more": False}
    return json_reply({"object": "list", "data": items, **listed})


def list_items(sim: Simulator, call: Call) -> Reply:
    """List a conversation's items."""
    return json_reply(page(call, list(_find(sim, call).items.values())))


def get_item(sim: Simulator, call: Call) -> Reply:
    """Answer one item."""
    return json_reply(_find_item(_find(sim, call), call))


def delete_item(sim: Simulator, call: Call) -> Reply:
    """Take an item out of a conversation and answer the conversation."""
    conversation = _find(sim, call)
    del conversation.items[_find_item(conversation, call)["id"]]
    return json_reply(conversation.wire)


def find_conversation(sim: Simulator, given: object) -> Conversation:
    """Return the conversation a response's body names, by its id or as an object with its id.

    Raises:
        Fault: 404.
    """
    conversation_id = given.get("id") if isinstance(given, dict) else given
    found = sim.conversations.get(conversation_id) if isinstance(conversation_id, str) else None
    if found is None:
        raise no_such("conversation", str(conversation_id))
    return found


def add_items(conversation: Conversation, items: list[Json]) -> None:
    """Append items; one that is there already stays where it is."""
    for item in items:
        conversation.items.setdefault(item["id"], item)


def read_items(sim: Simulator, given: list[Json]) -> list[Json]:
    """Return items as they are kept: each with an id and a type, texts as parts.

    Raises:
        Fault: 404, a file that one refers to does not exist.
    """
    items = [_read_item(sim, item) for item in given]
    for item in items:
        for part in item["content"] if isinstance(item.get("content"), list) else []:
            if part.get("file_id") is not None:
                sim.file(part["file_id"])
    return items


def _read_item(sim: Simulator, given: Json) -> Json:
    fresh = sim.ids.hexadecimal("msg_")
    item: Json = {"id": fresh, "type": "message", **given}
    if not isinstance(item["id"], str):
        item["id"] = fresh
    if isinstance(item.get("content"), str):
        kind = "output_text" if item.get("role") == "assistant" else "input_text"
        item["content"] = [{"type": kind, "text": item["content"]}]
    if item["type"] == "message":
        item.setdefault("status", "completed")
    return item


def _find(sim: Simulator, call: Call) -> Conversation:
    return find_conversation(sim, call.names["conversation_id"])


def _find_item(conversation: Conversation, call: Call) -> Json:
    item = conversation.items.get(call.names["item_id"])
    if item is None:
        raise no_such("item", call.names["item_id"])
    return item
