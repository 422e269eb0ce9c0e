"""Embeddings: unit vectors that are a function of the text, as numbers or as base64."""

import base64
import hashlib
import math
import struct
from typing import Any

from gateway.simulator.acting import act_out
from gateway.simulator.errors import backend, missing
from gateway.simulator.exchange import Call, Json, Reply, json_reply
from gateway.simulator.script import read_script
from gateway.simulator.state import Simulator
from gateway.simulator.usage import Usage, count_tokens

INPUTS_MAX = 2048
_DIMENSIONS = {"text-embedding-3-large": 3072}
_DIMENSIONS_DEFAULT = 1536


def create_embeddings(sim: Simulator, call: Call) -> Reply:
    """Answer one vector per input."""
    body = call.json()
    deployment = str(call.names.get("deployment") or body.get("model"))
    model = sim.model_of(deployment)
    inputs = _inputs_of(body.get("input"))
    dimensions = body.get("dimensions") or _DIMENSIONS.get(model, _DIMENSIONS_DEFAULT)
    if not isinstance(dimensions, int) or dimensions < 1:
        raise backend(f"{dimensions} is less than the minimum of 1 - 'dimensions'")
    script = read_script(" ".join(text for text in inputs if isinstance(text, str)))
    as_base64 = body.get("encoding_format") == "base64"

    def work() -> Reply:
        usage = script.tokens or Usage(sum(_tokens_of(entry) for entry in inputs))
        sim.invoice.charge(model, usage)
        rows: list[Json] = [
            {
                "object": "embedding",
                "index": index,
                "embedding": _encode(_vector(str(entry), dimensions), as_base64=as_base64),
            }
            for index, entry in enumerate(inputs)
        ]
        tokens = usage.input_tokens
        counted = {"prompt_tokens": tokens, "total_tokens": tokens}
        headers = sim.quota.take(deployment, tokens, at_s=sim.now_s())
        answer = {"object": "list", "data": rows, "model": model, "usage": counted}
        return json_reply(answer, headers=headers)

    return act_out(script, work)


def _inputs_of(given: Any) -> list[str | list[int]]:
    if isinstance(given, str) and given:
        return [given]
    if not isinstance(given, list) or not given:
        raise missing("input")
    if _is_tokens(given):
        return [given]
    if len(given) > INPUTS_MAX:
        raise backend(f"Invalid 'input': at most {INPUTS_MAX} entries.", param="input")
    if not all(isinstance(entry, str) or _is_tokens(entry) for entry in given):
        raise backend("Invalid 'input': expected texts or lists of tokens.", param="input")
    return list(given)


def _is_tokens(entry: object) -> bool:
    return isinstance(entry, list) and all(isinstance(token, int) for token in entry)


def _tokens_of(entry: str | list[int]) -> int:
    return count_tokens([entry]) if isinstance(entry, str) else len(entry)


def _vector(name: str, dimensions: int) -> list[float]:
    noise = hashlib.shake_256(name.encode("utf-8", "surrogatepass")).digest(2 * dimensions)
    raw = [value + 0.5 for value in struct.unpack(f"<{dimensions}h", noise)]
    length = math.sqrt(sum(value * value for value in raw))
    return [value / length for value in raw]


def _encode(vector: list[float], *, as_base64: bool) -> list[float] | str:
    if not as_base64:
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
