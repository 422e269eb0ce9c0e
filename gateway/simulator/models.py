"""The models behind the resource's deployments.

Source: Azure OpenAI authoring specification (dated: status, capabilities, lifecycle), `/openai/v1`
specification (`id`, `created`, `object`, `owned_by`).
"""

from gateway.simulator.config import snapshot_of
from gateway.simulator.errors import backend
from gateway.simulator.exchange import Call, Json, Reply, json_reply
from gateway.simulator.state import Simulator

CREATED_AT_S = 1_715_367_049


def list_models(sim: Simulator, call: Call) -> Reply:
    """List the models, each once, whatever its deployments are called."""
    return json_reply({"object": "list", "data": [_show(call, name) for name in _names(sim)]})


def get_model(sim: Simulator, call: Call) -> Reply:
    """Answer one model, by its dated name or without the date."""
    for name in _names(sim):
        if call.names["model"] in (name, snapshot_of(name)):
            return json_reply(_show(call, name))
    raise backend(f"The model '{call.names['model']}' does not exist", status=404)


def _names(sim: Simulator) -> list[str]:
    return sorted(set(sim.config.deployments.values()))


def _show(call: Call, name: str) -> Json:
    model: Json = {"id": snapshot_of(name), "object": "model"}
    if call.is_v1:
        return {**model, "created": CREATED_AT_S, "owned_by": "azure-openai"}
    embeds = name.startswith("text-embedding")
    capabilities = {
        "fine_tune": False,
        "inference": True,
        "completion": not embeds,
        "chat_completion": not embeds,
        "embeddings": embeds,
    }
    return {
        **model,
        "created_at": CREATED_AT_S,
        "status": "succeeded",
        "lifecycle_status": "generally-available",
        "capabilities": capabilities,
    }
