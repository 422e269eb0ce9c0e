"""Models, as a caller may name them: the deployments of this gateway, told by the gateway itself.

Azure would list the base models of a whole region, deployed or not, and everybody's fine-tuned
ones. A caller needs to know what he may write into `model`, and that stands in our settings.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from gateway.answer import Answer
from gateway.core.billing import Deployment
from gateway.core.errors import not_found
from gateway.core.model import SECOND
from gateway.exchange import Asked
from gateway.house import House

_HEADERS = [(b"content-type", b"application/json"), (b"x-gateway-session", b"none")]


async def tell_models(house: House, asked: Asked, answer: Answer) -> None:
    """Answer with every deployment, or with the one the path names.

    Raises:
        Refusal: 404, there is no deployment of that name.
    """
    known = _deployments(house)
    name = asked.segment("model")
    if name is None:
        body: object = {
            "object": "list",
            "data": [_model(house, known[each], asked.at) for each in sorted(known)],
        }
    elif name in known:
        body = _model(house, known[name], asked.at)
    else:
        raise not_found()
    await answer.whole(200, _HEADERS, orjson.dumps(body))


def _deployments(house: House) -> Mapping[str, Deployment]:
    """Return what is configured; without any, a deployment is named like the model it serves."""
    rules = house.rules
    return rules.deployments or {name: rules.deployment(name) for name in rules.rates.book.prices}


def _model(house: House, deployment: Deployment, at: int) -> dict[str, object]:
    price = house.rules.rates.book.price_nearest(deployment.model, at)
    return {
        "id": deployment.name,
        "object": "model",
        "created": price.valid_from // SECOND if price is not None else 0,
        "owned_by": "azure-openai",
        "model": deployment.model,
    }
