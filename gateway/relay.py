"""The street: the one way from a caller to Azure and back, to be read from top to bottom.

    identify -> match -> read -> upgrade -> own -> decide -> quote -> reserve
             -> send -> meter, walk back -> settle -> last byte

Each stage may refuse, and what it refuses has gone nowhere. A stage gets what the stage before it
made (see `exchange.py`), so that none can be left out: nothing is sent without a `Hold`, and
before a hold exists for anything that costs money or makes an object, its intent is on disk.

On the way back the meter looks at every chunk before the caller gets it, and the chunk that ends
the work leaves only once its outcome is durable (or, after `settle_timeout_s`, with the hold
still open). A caller who goes away does not end the exchange: a reply that tells what was billed
is read to its end all the same, up to a limit (see `answer.py`).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from gateway.answer import Answer, passed_headers
from gateway.audit import keep_permission, keep_refusal, log_refused_key
from gateway.core import versions
from gateway.core.errors import Code, Refusal, Refused, not_found
from gateway.core.interpreter import RUN_LASTS_AT_MOST
from gateway.core.ledger import Claim, Intent, Period, window_end
from gateway.core.metering import Meter
from gateway.core.model import ObjectId
from gateway.core.operations import Reply, check_query
from gateway.core.ownership import references
from gateway.core.policy import SpendPolicy, claims
from gateway.core.quoting import bound_usage, session_lines, token_lines
from gateway.core.target import parse_target
from gateway.deciding import conversation_of, decide
from gateway.deferral import defer_deletion, is_deferred
from gateway.exchange import Asked, Hold, Permit, Quote
from gateway.house import House
from gateway.intake import CallerGone, brings_upload, form_of, read_json, read_upload, said_once
from gateway.journey import Journey
from gateway.listing import list_own
from gateway.models import tell_models
from gateway.outgoing import forwarded_headers, rendered
from gateway.ports import StoreUnavailable
from gateway.refusals import (
    FAULT,
    UNAVAILABLE,
    UNREACHABLE,
    for_azure_core,
    over_cap,
    unanswered,
    unpriced,
)
from gateway.spool import SpoolFault
from gateway.upstream import MaybeSent, NotSent, ReplyBroken
from gateway.upstream import Reply as AzureReply
from gateway.views import DocumentView, StreamView, View, change_data, hide_usage
from gateway.visit import Visit

_log = logging.getLogger("gateway.street")


class Street:
    """The data plane, an ASGI application."""

    def __init__(self, house: House, wake: Callable[[], None]) -> None:
        self._house = house
        self._wake = wake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever happens, it is answered in Azure's shape, or metered."""
        house = self._house
        answer = Answer(send, f"gw-{os.urandom(16).hex()}", stall_s=house.limits.stall_s)
        visit = Visit(answer)
        began = time.perf_counter()
        with house.telemetry.in_flight.track_inprogress():
            try:
                await self._walk(visit, scope, receive)
            except CallerGone:
                answer.status = 499
            except Refusal as refusal:
                log_refused_key(scope, refusal, answer.request_id)
                await self._refuse(visit, refusal.refused)
                await keep_refusal(house, visit.asked, refusal)
            except (StoreUnavailable, SpoolFault) as fault:
                _log.warning("unavailable: %s (request %s)", fault, answer.request_id)
                await self._refuse(visit, UNAVAILABLE)
            except NotSent:
                house.telemetry.upstream_fault(upstream=visit.upstream, kind="not_sent")
                await self._refuse(visit, UNREACHABLE)
            except (MaybeSent, ReplyBroken) as fault:
                kind = "maybe_sent" if isinstance(fault, MaybeSent) else "reply_broken"
                house.telemetry.upstream_fault(upstream=visit.upstream, kind=kind)
                await self._refuse(
                    visit, unanswered(is_promised=visit.is_promised, method=scope["method"])
                )
            except Exception:
                _log.exception("a fault of ours (request %s)", answer.request_id)
                await self._refuse(visit, FAULT)
            finally:
                visit.let_go()
                house.telemetry.answered(
                    team=visit.team,
                    operation=visit.operation,
                    status=answer.status or 500,
                    seconds=time.perf_counter() - began,
                )

    async def _walk(self, visit: Visit, scope: Scope, receive: Receive) -> None:
        asked = await self._asked(visit, scope, receive)
        await self._own(asked)
        if asked.operation.is_ours:
            await tell_models(self._house, asked, visit.answer)
            return
        if asked.operation.lists is not None:
            await list_own(self._house, asked, visit.answer)
            return
        if is_deferred(asked.operation):
            await defer_deletion(self._house, asked, visit.answer)
            self._wake()
            return
        permit = await decide(self._house, asked)
        asked.seal()
        visit.upstream = asked.upstream
        quote = self._quote(permit)
        hold = await self._reserve(quote)
        visit.is_promised = hold.intent is not None
        for feature in sorted(asked.unmetered):
            self._house.telemetry.unmetered(team=asked.caller.team, feature=feature)
        await self._carry(hold, receive, visit.answer)

    # identify, match, read, upgrade

    async def _asked(self, visit: Visit, scope: Scope, receive: Receive) -> Asked:
        house, at = self._house, self._house.clock.now()
        caller = house.ring.identify(scope["headers"], at)
        visit.team = caller.team
        headers = said_once(scope["headers"])
        target = parse_target(scope["raw_target"])
        match = house.catalogue.match(scope["method"], target.segments)
        operation = match.operation
        visit.operation = operation.name
        query, version = check_query(operation, target.query)
        policies, way = house.rules.policies, house.rules.way_of(match)
        try:
            route = versions.route(
                policies.versions,
                operation.surface,
                version,
                operation.name,
                is_carried=way.surface is not operation.surface,
            )
        except Refusal:
            house.telemetry.version(team=caller.team, asked=version, sent=None)
            raise
        house.telemetry.version(team=caller.team, asked=version, sent=route.sent)
        asked = Asked(
            id=visit.answer.request_id,
            at=at,
            caller=caller,
            match=match,
            query=query,
            headers=forwarded_headers(scope["headers"]),
            route=route,
            upstream=way.upstream,
            surface=way.surface,
            root=way.root,
        )
        visit.upstream, visit.asked = asked.upstream, asked
        if brings_upload(operation, headers):
            asked.upload = await read_upload(
                receive,
                headers,
                policies.uploads,
                house.spool,
                team=caller.team,
                form=form_of(operation),
            )
            await keep_permission(house, asked)
        else:
            body = await read_json(
                receive, headers, operation, limit_bytes=house.limits.request_bytes_max
            )
            asked.body = versions.upgrade(route, operation.name, body)
        return asked

    # own

    async def _own(self, asked: Asked) -> None:
        named = [
            ObjectId(asked.upstream, reference.kind, reference.id)
            for reference in references(asked.match, asked.query, asked.body)
        ]
        if not named:
            return
        owners = await self._house.store.owners(named)
        if any(owners.get(each) != asked.caller.team for each in named):
            raise not_found()

    # quote, reserve

    def _quote(self, permit: Permit) -> Quote:
        asked, rates = permit.asked, self._house.rules.rates
        lines = session_lines(permit.bounds)
        if permit.deployment is None or asked.body is None:
            return Quote(permit, lines, permit.sessions)
        deployment = permit.deployment
        price = rates.book.price_at(deployment.model, asked.at)
        if price is None:
            raise unpriced(deployment, rates.book)
        usage = bound_usage(
            asked.operation.bills, asked.body, body_bytes=len(asked.wire or b""), price=price
        )
        tokens = token_lines(rates.book, price, deployment.type, usage)
        return Quote(permit, (*tokens, *lines), permit.sessions)

    async def _reserve(self, quote: Quote) -> Hold:
        permit, house = quote.permit, self._house
        asked = permit.asked
        if not asked.operation.is_journalled:
            return Hold(quote, None)
        thread = asked.segment("thread")
        intent = Intent(
            id=asked.id,
            at=asked.at,
            operation=asked.operation.name,
            origin=asked.origin(permit.deployment),
            quote=quote.lines,
            tools_may_call=permit.tools_may_call,
            thread=thread,
            previous=_previous(asked),
            conversation=conversation_of(asked.body),
            memory=permit.memory,
        )
        wanted = _claims(house.rules.policies.spend, quote)
        try:
            refused = await house.store.reserve(intent, wanted)
        except StoreUnavailable:
            house.bookkeeper.doubt(intent.id)
            raise
        if refused is None:
            return Hold(quote, intent)
        ends = window_end(refused.claim.balance.period, asked.at)
        raise over_cap(refused, ends, status=house.rules.policies.spend.cap_status)

    # send, meter, walk back, settle, last byte

    async def _carry(self, hold: Hold, receive: Receive, answer: Answer) -> None:
        """Send and bring the reply back; whatever happens, the hold learns how it ended."""
        asked = hold.asked
        hears = asked.operation.hears
        journey = Journey(self._house, hold, Meter(is_stream=False, hears=hears), self._wake)
        try:
            async with answer.attended(receive, self._house.tasks, journey.patience):
                outgoing = rendered(asked)
                reply = await self._house.upstream.send(
                    asked.upstream,
                    method=outgoing.method,
                    path=outgoing.path,
                    query=outgoing.query,
                    headers=outgoing.headers,
                    body=outgoing.body,
                    content_length=outgoing.content_length,
                )
                journey.status = reply.status
                try:
                    if 300 <= reply.status < 400:
                        raise Refusal(
                            Code.UPSTREAM_UNREACHABLE,
                            "Azure answered with a redirect, and a redirect is not followed",
                            headers=(("x-should-retry", "false"),),
                        )
                    await self._bring_back(reply, journey, answer)
                finally:
                    await reply.aclose()
        except (NotSent, SpoolFault, Refusal):
            journey.was_sent = False
            raise
        finally:
            await journey.settle()
        if journey.is_whole or not answer.status:
            await answer.end(journey.last)
        # Otherwise the reply broke under way. It is left without an end, which closes the
        # connection: a broken reply must not look like a whole one.

    async def _bring_back(self, reply: AzureReply, journey: Journey, answer: Answer) -> None:
        asked = journey.hold.asked
        is_stream = _is_event_stream(reply)
        journey.meter = Meter(is_stream=is_stream, hears=asked.operation.hears)
        view = _view(journey.hold, reply, is_stream=is_stream)
        await answer.begin(reply.status, [*passed_headers(reply.headers), *_told(journey, view)])
        try:
            async for chunk in reply.chunks():
                if asked.operation.reply is not Reply.BYTES:
                    journey.meter.feed(chunk)
                answer.count_unheard(len(chunk))
                passed = view.feed(chunk) if view is not None else chunk
                if is_stream:
                    await journey.between_chunks()
                    await answer.chunk(passed)
                else:
                    await answer.chunk(journey.hold_back(passed))
            journey.is_whole = True
        except ReplyBroken:
            telemetry = self._house.telemetry
            telemetry.upstream_fault(upstream=asked.upstream, kind="reply_broken")
        if asked.operation.reply is not Reply.BYTES:
            # A document that came whole says what it says, also if its connection broke after it.
            journey.meter.finish()
        if view is not None:
            journey.hold_back(view.end(), join=True)

    # what is told when it does not go on

    async def _refuse(self, visit: Visit, refused: Refused) -> None:
        if visit.answer.status:
            return
        if visit.is_promised and visit.is_projects:
            refused = for_azure_core(refused)
        self._house.telemetry.refused(
            team=visit.team, code=refused.code.word, rule=refused.rule or "none"
        )
        await visit.answer.refuse(refused)


def _previous(asked: Asked) -> str | None:
    previous = (asked.body or {}).get("previous_response_id")
    return previous if isinstance(previous, str) else None


def _claims(spend: SpendPolicy, quote: Quote) -> tuple[Claim, ...]:
    """Return what a request claims under every cap, that of each thread or container included.

    A thread that is yet to be made has an empty balance: only a cap that no balance of it could
    ever meet is claimed, or each would leave an empty balance behind.
    """
    asked, found = quote.permit.asked, dict[Claim, None]()
    for scope in quote.permit.scopes or (None,):
        for claim in claims(
            spend,
            team=asked.caller.team,
            scope=scope,
            sessions=quote.sessions,
            nano_usd=quote.nano_usd,
            at=asked.at,
            until=asked.at + (RUN_LASTS_AT_MOST if quote.permit.scopes else 0),
        ):
            is_new = scope is not None and scope.id == asked.id
            if not (is_new and claim.balance.period is Period.EVER and claim.bound <= claim.cap):
                found[claim] = None
    return tuple(found)


def _is_event_stream(reply: AzureReply) -> bool:
    return any(
        name == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in reply.headers
    )


def _view(hold: Hold, reply: AzureReply, *, is_stream: bool) -> View | None:
    asked = hold.asked
    if reply.status < 300 and versions.alters_replies(asked.route):
        route, name = asked.route, asked.operation.name

        def back(document: dict[str, object]) -> dict[str, object]:
            return versions.downgrade(route, name, document)

        if is_stream:
            return StreamView(change_data(back))
        return DocumentView(back) if asked.operation.reply is not Reply.BYTES else None
    if is_stream and hold.quote.permit.hides_usage:
        return StreamView(hide_usage)
    return None


def _told(journey: Journey, view: View | None) -> list[tuple[bytes, bytes]]:
    """Return the headers we add: what became of the session, and when the version ends."""
    asked = journey.hold.asked
    told = [(b"x-gateway-session", journey.hold.quote.permit.session_state.encode())]
    if asked.route.retired or asked.route.sunset:
        told.append((b"deprecation", b"true"))
    if view is None and asked.operation.reply is Reply.BYTES:
        told.append((b"x-content-type-options", b"nosniff"))
    return told
