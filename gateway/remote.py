"""The running gateway as the command line sees it: HTTP over the control socket.

Source of the protocol: `gateway.control`.
"""

from __future__ import annotations

import http.client
import json
from pathlib import Path

from gateway.control import IssuedKey, connect_control

_TIMEOUT_S = 15.0


class NotRunning(Exception):
    """No gateway listens on the control socket."""


class RemoteRefusal(Exception):
    """The running gateway said no; the message is its own."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = connect_control(self._path, timeout_s=_TIMEOUT_S)


def issue_remotely(path: Path, team: str) -> IssuedKey:
    """Return a new key that the running gateway has issued and already accepts.

    Raises:
        NotRunning: nothing listens at `path`.
        RemoteRefusal: the gateway refused.
        OSError: it was reached and did not answer; a key may have been issued.
    """
    document = _exchange(path, "POST", "/keys", {"team": team})
    return IssuedKey(public=str(document["public"]), key=str(document["key"]))


def revoke_remotely(path: Path, public: str) -> None:
    """Revoke a key through the running gateway, which refuses it from then on.

    Raises:
        NotRunning, RemoteRefusal, OSError: as for `issue_remotely`.
    """
    _exchange(path, "DELETE", f"/keys/{public}", None)


def _exchange(
    path: Path, method: str, target: str, body: dict[str, str] | None
) -> dict[str, object]:
    connection = _UnixConnection(path)
    try:
        try:
            connection.connect()
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunning(str(path)) from error
        try:
            connection.request(method, target, body=None if body is None else json.dumps(body))
            reply = connection.getresponse()
            text = reply.read()
        except http.client.HTTPException as error:
            raise OSError(f"the gateway at `{path}` did not answer") from error
        document = json.loads(text) if text else {}
    finally:
        connection.close()
    if reply.status >= 400:
        raise RemoteRefusal(str(document["error"]["message"]))
    return dict(document)
