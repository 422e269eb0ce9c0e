"""Decide: may this team do this? From the parsed request to a `Permit`, or a refusal.

Nothing is decided on what cannot be seen. A run may take its tools and model from the assistant,
so the assistant is read first, and the run is then sent with those tools written out: what was
judged is what will run, whatever is done to the assistant in between.
"""

from __future__ import annotations

from collections.abc import Mapping

import jiter

from gateway.core.billing import Deployment
from gateway.core.contents import check_contents
from gateway.core.errors import Code, Refusal, not_found
from gateway.core.inline import judge_inline
from gateway.core.interpreter import (
    SessionBound,
    bound_new,
    bound_session,
    check_container,
    containers_of,
    effective_tools,
    is_alive,
    run_may_call,
)
from gateway.core.model import ObjectId, ObjectKind, Scope, ScopeKind
from gateway.core.operations import Bills, Body
from gateway.core.policy import check_tools
from gateway.core.unmetered import check_feature, check_unmetered
from gateway.exchange import Asked, Permit
from gateway.house import House
from gateway.outgoing import api_version_query
from gateway.refusals import waits_of
from gateway.upstream import MaybeSent, NotSent, Reply, ReplyBroken

_CHAIN_MAX = 100
_ASSISTANT_BYTES_MAX = 4 * 1024 * 1024

# A limit bounds what a request can cost, so one that Azure would not look at must not pass for one.
_LIMITS = {
    Bills.CHAT: frozenset({"max_tokens", "max_completion_tokens"}),
    Bills.RUN: frozenset({"max_prompt_tokens", "max_completion_tokens"}),
    Bills.RESPONSE: frozenset({"max_output_tokens"}),
}
_EVERY_LIMIT = frozenset[str]().union(*_LIMITS.values())


async def decide(house: House, asked: Asked) -> Permit:
    """Return the permit for a request.

    Raises:
        Refusal: policy is against it, or a fact it rests on cannot be had.
    """
    feature = asked.operation.feature
    check_feature(feature, house.rules.policies.models.unmetered)
    asked.unmetered |= {feature} if feature is not None else set()
    if asked.body is None:
        return Permit(asked)
    _check_body(house, asked, asked.body)
    match asked.operation.bills:
        case Bills.CHAT | Bills.EMBEDDINGS:
            return _tokens(house, asked, asked.body)
        case Bills.RUN:
            return await _run(house, asked, asked.body)
        case Bills.RESPONSE:
            return await _response(house, asked, asked.body)
        case Bills.CONTAINER:
            memory = check_container(asked.body, _tiers(house, asked))
            return Permit(
                asked,
                bounds=(_bound_new(house, asked, ScopeKind.CONTAINER, memory),),
                memory=memory,
                scopes=(_new_scope(asked, ScopeKind.CONTAINER),),
                session_state="reserved",
                tools_may_call=True,
            )
        case Bills.NOTHING:
            return Permit(asked)


def _check_body(house: House, asked: Asked, body: dict[str, object]) -> None:
    policies = house.rules.policies
    models = policies.models
    judge_inline(body, models.image_hosts, policies.uploads)
    check_tools(models, body.get("tools"))
    if not isinstance(body.get("stream", False), bool | None):
        # Azure might take `1` for true; the reply would then be a stream that nobody metered.
        raise Refusal(Code.MALFORMED_REQUEST, "`stream` must be true or false", param="stream")
    _check_limits(asked.operation.bills, body)
    if asked.operation.body is Body.CONTAINER_FILE:
        _check_reference(body)
    asked.unmetered |= check_unmetered(body, models.unmetered)
    check_contents(asked.operation.bills, body)


def _check_limits(bills: Bills, body: Mapping[str, object]) -> None:
    known = _LIMITS.get(bills)
    if known is None:
        return
    for name in sorted(_EVERY_LIMIT - known):
        if body.get(name) is not None:
            raise Refusal(
                Code.MALFORMED_REQUEST,
                f"`{name}` is no parameter of this operation, which takes "
                f"{', '.join(f'`{each}`' for each in sorted(known))}",
                param=name,
                rule="limit-not-known",
            )


def _check_reference(body: Mapping[str, object]) -> None:
    """A file that comes as JSON is one that was uploaded before, and nothing else."""
    for name in body:
        if name != "file_id":
            raise Refusal(
                Code.MALFORMED_REQUEST,
                f"`{name[:64]}` is not known here; send `file_id`, or the file itself as a form",
                param=name[:64],
            )
    if body.get("file_id") is None:
        raise Refusal(Code.MALFORMED_REQUEST, "`file_id` is missing", param="file_id")


def _tokens(house: House, asked: Asked, body: dict[str, object]) -> Permit:
    deployment = _deployment(house, asked.segment("deployment") or body.get("model"))
    asked.upstream = deployment.upstream
    hides_usage = False
    if asked.operation.bills is Bills.CHAT and asked.wants_stream:
        hides_usage = _ask_for_usage(asked, body)
    return Permit(asked, deployment=deployment, hides_usage=hides_usage)


# The first api-version whose chat streams can carry usage.
# Source: Azure OpenAI, "API version lifecycle" (2025), entry 2024-09-01-preview.
_STREAM_USAGE_SINCE = "2024-09-01"


def _ask_for_usage(asked: Asked, body: dict[str, object]) -> bool:
    """Make the stream say its usage; return whether that must be hidden from the client."""
    sent = asked.route.sent
    if sent is not None and sent < _STREAM_USAGE_SINCE:
        return False
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise Refusal(
            Code.MALFORMED_REQUEST, "`stream_options` must be an object", param="stream_options"
        )
    wanted = bool(options and options.get("include_usage"))
    body["stream_options"] = {**(options or {}), "include_usage": True}
    return not wanted


async def _run(house: House, asked: Asked, body: dict[str, object]) -> Permit:
    assistant = await _assistant(house, asked, body)
    tools = effective_tools(body, assistant)
    check_tools(house.rules.policies.models, tools, param="assistant.tools")
    deployment = _deployment(house, body.get("model") or assistant.get("model"))
    body["tools"] = tools if tools is not None else []
    body["model"] = deployment.name
    if not run_may_call(tools):
        return Permit(asked, deployment=deployment)
    thread = asked.segment("thread")
    kind = ScopeKind.of_threads(asked.surface)
    if thread is not None:
        bound = await _bound(house, asked, kind, thread)
        scope = Scope(asked.upstream, kind, thread)
    else:
        bound, scope = _bound_new(house, asked, kind), _new_scope(asked, kind)
    return Permit(
        asked,
        deployment,
        tools_may_call=True,
        bounds=(bound,),
        scopes=(scope,),
        session_state="reserved" if bound.sessions else "open",
    )


async def _response(house: House, asked: Asked, body: dict[str, object]) -> Permit:
    deployment = _deployment(house, body.get("model"))
    containers = containers_of(body, _tiers(house, asked))
    if not containers.named and not containers.automatic:
        return Permit(asked, deployment=deployment)
    # Azure takes up a living container that the context has shown; then there is none that stays
    # hidden. A session is held all the same: nobody knows beforehand which it will be.
    is_shown = containers.automatic > 0 and await _is_shown(house, asked, body)
    memory = containers.memory
    bounds = [_bound_automatic(house, asked, body, memory)] * containers.automatic
    scopes = [_new_scope(asked, ScopeKind.CONTAINER)] if containers.automatic else []
    for name in containers.named:
        bounds.append(await _bound(house, asked, ScopeKind.CONTAINER, name))
        scopes.append(Scope(asked.upstream, ScopeKind.CONTAINER, name))
    return Permit(
        asked,
        deployment,
        tools_may_call=containers.automatic > 0 and not is_shown,
        bounds=tuple(bounds),
        memory=memory,
        scopes=tuple(scopes),
        session_state="reserved" if any(bound.sessions for bound in bounds) else "open",
    )


async def _is_shown(house: House, asked: Asked, body: Mapping[str, object]) -> bool:
    """Return whether earlier responses showed a container that is certain to be there still.

    Only calls that Azure itself told of count, never what a caller puts into his input.
    """
    conversation = conversation_of(body)
    if conversation is not None:
        shown = await house.store.containers_in(
            upstream=asked.upstream, conversation=conversation, limit=_CHAIN_MAX
        )
        for name in shown:
            if await _is_living(house, asked, name):
                return True
        return False
    response = body.get("previous_response_id")
    for _ in range(_CHAIN_MAX):
        if not isinstance(response, str):
            return False
        shown = await house.store.containers_of(upstream=asked.upstream, response=response)
        if shown:
            return await _is_living(house, asked, shown[-1])
        before = await house.store.intent_of_response(upstream=asked.upstream, response=response)
        response = before.previous if before is not None else None
    return False


def conversation_of(body: Mapping[str, object] | None) -> str | None:
    """Return the conversation a response is in: a body names it by its id or as an object."""
    given = (body or {}).get("conversation")
    name = given.get("id") if isinstance(given, Mapping) else given
    return name if isinstance(name, str) else None


async def _is_living(house: House, asked: Asked, name: str) -> bool:
    container = ObjectId(asked.upstream, ObjectKind.CONTAINER, name)
    owners = await house.store.owners([container])
    calls = await house.store.calls(Scope(asked.upstream, ScopeKind.CONTAINER, name))
    return owners.get(container) == asked.caller.team and is_alive(tuple(calls), asked.at)


def _new_scope(asked: Asked, kind: ScopeKind) -> Scope:
    """Return a stand-in for a thread or container that Azure is about to make."""
    return Scope(asked.upstream, kind, asked.id)


def _tiers(house: House, asked: Asked) -> frozenset[str]:
    """Return the memory tiers that have a price."""
    return house.rules.rates.book.terms.tiers(asked.upstream, asked.at)


async def _bound(house: House, asked: Asked, kind: ScopeKind, name: str) -> SessionBound:
    calls = await house.store.calls(Scope(asked.upstream, kind, name))
    schedule = house.rules.rates.book.terms.of(kind, asked.upstream)
    return bound_session(tuple(calls), schedule, asked.at)


def _bound_new(
    house: House, asked: Asked, kind: ScopeKind, memory: str | None = None
) -> SessionBound:
    return bound_new(house.rules.rates.book.terms.of(kind, asked.upstream), asked.at, memory)


def _bound_automatic(
    house: House, asked: Asked, body: Mapping[str, object], memory: str | None
) -> SessionBound:
    """Return the bound of an automatic container: a new one, shown or not, or an earlier one.

    One that the context showed may have more memory than is asked for now, so that the dearest
    tier bounds it.
    """
    tiers = {memory, *_tiers(house, asked)} if _has_context(body) else {memory}
    found = [
        _bound_new(house, asked, kind, tier)
        for kind in (ScopeKind.CONTAINER, ScopeKind.RESPONSE)
        for tier in tiers
    ]
    return max(found, key=lambda bound: bound.nano_usd)


def _has_context(body: Mapping[str, object]) -> bool:
    items = body.get("input")
    return (
        body.get("previous_response_id") is not None
        or body.get("conversation") is not None
        or any("container_id" in item for item in _mappings(items))
    )


def _mappings(items: object) -> list[Mapping[str, object]]:
    found = items if isinstance(items, list) else []
    return [item for item in found if isinstance(item, Mapping)]


def _deployment(house: House, name: object) -> Deployment:
    if not isinstance(name, str) or not name:
        raise Refusal(Code.MALFORMED_REQUEST, "`model` must name a deployment", param="model")
    return house.rules.deployment(name)


async def _assistant(
    house: House, asked: Asked, body: Mapping[str, object]
) -> Mapping[str, object]:
    name = body.get("assistant_id")
    if not isinstance(name, str):
        raise Refusal(Code.MALFORMED_REQUEST, "`assistant_id` is missing", param="assistant_id")
    try:
        reply = await house.upstream.send(
            asked.upstream,
            method="GET",
            path=f"{asked.root}/assistants/{name}",
            query=api_version_query(asked.route.sent),
            headers=asked.headers,
            body=None,
        )
        document = await reply.read(_ASSISTANT_BYTES_MAX)
    except (MaybeSent, ReplyBroken):
        # Only the question was asked: the caller must not be told that his run may have begun.
        raise NotSent("the run's assistant could not be read") from None
    if reply.status == 404:
        raise not_found()
    if reply.status != 200:
        raise _no_assistant(reply)
    return _object(document)


def _no_assistant(reply: Reply) -> Refusal:
    """Return what is told when Azure does not tell of the assistant: whose fault it is."""
    code = Code.GATEWAY_UNAVAILABLE
    if reply.status == 429:
        code = Code.RATE_LIMIT_EXCEEDED
    elif 400 <= reply.status < 500 and reply.status not in (401, 403, 408):
        code = Code.MALFORMED_REQUEST
    return Refusal(
        code,
        f"Azure answered `{reply.status}` when asked for the run's assistant, whose tools "
        "must be known before it may run; nothing was sent",
        param="assistant_id",
        headers=waits_of(reply.headers),
    )


def _object(document: bytes) -> Mapping[str, object]:
    try:
        parsed = jiter.from_json(document)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise Refusal(Code.GATEWAY_UNAVAILABLE, "Azure's answer about the assistant is no object")
    return parsed
