"""Directives that concern the exchange and not the work: statuses, delays, cut connections."""

from collections.abc import Callable
from dataclasses import replace

from gateway.simulator.errors import directed
from gateway.simulator.exchange import Reply, fault_reply
from gateway.simulator.script import Script


def act_out(script: Script, work: Callable[[], Reply]) -> Reply:
    """Return the reply of `work` as the script wants it seen.

    A directed status keeps the work from being done, unless the script says that it comes after.
    """
    reply = work() if script.status is None or script.after else None
    directive = _named(script)
    if script.status is not None or reply is None:
        fault = fault_reply(directed(script.status or 500))
        reply = replace(fault, worked=reply is not None)
    return replace(reply, delay_s=script.delay_s, cut=script.cut, directive=directive)


def _named(script: Script) -> str | None:
    """Return what the journal calls the directive's fault, or None if it asked for none."""
    said = {"status": script.status, "cut": script.cut, "delay": script.delay_s or None}
    return next((name for name, value in said.items() if value is not None), None)
