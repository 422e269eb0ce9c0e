"""A door in a process of its own: prints its port, answers every request with its own body, and
serves until its standard input is closed. `python -m tests.door.standing`
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from starlette.types import Receive, Scope, Send

from gateway.listener import Door, DoorLimits
from tests.door.knocking import respond

# Nobody is to be closed for being idle, however long the machine takes.
_LIMITS = DoorLimits(keep_alive_timeout_s=3_600)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path and the body of the request."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    await respond(send, 200, scope["path"].encode() + b":" + body)


async def _stand() -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    door = Door(echo, host="127.0.0.1", port=0, limits=_LIMITS)
    await door.start()
    sys.stdout.write(f"{door.port}\n")
    sys.stdout.flush()
    loop.add_reader(sys.stdin.fileno(), stop.set)
    await stop.wait()
    await door.stop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_stand())
