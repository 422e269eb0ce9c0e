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
    if script.status is not None or reply is None:
        reply = fault_reply(directed(script.status or 500))
    return replace(reply, delay_s=script.delay_s, cut=script.cut)
