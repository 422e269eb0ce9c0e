"""TLS to an upstream: trusted servers are reached, others are sent nothing."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from gateway.upstream import NotSent
from tests.conftest import needs_real
from tests.transport.facing import OK, ask, facing, replying

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a certificate for 127.0.0.1 that vouches for itself, and its key."""
    openssl = shutil.which("openssl")
    needs_real("openssl", found=openssl is not None, how="apt-get install openssl")
    folder = tmp_path_factory.mktemp("tls")
    crt, key = folder / "server.crt", folder / "server.key"
    subprocess.run(
        [
            *(openssl or "", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=loopback", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(crt)),
        ],
        check=True,
        capture_output=True,
    )
    return crt, key


@pytest.fixture
def server_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


async def test_a_server_of_a_private_authority_is_reached_when_it_is_trusted(
    certificate: tuple[Path, Path], server_tls: ssl.SSLContext
) -> None:
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    async with facing(replying(OK), tls=server_tls, trust=trust) as (upstream, server):
        for _ in range(2):
            assert await (await ask(upstream, body=b"1")).read(2) == b"ok"
    assert (len(server.requests), server.connections) == (2, 1)


async def test_a_server_that_is_not_trusted_is_not_sent_to(server_tls: ssl.SSLContext) -> None:
    async with facing(replying(OK), tls=server_tls) as (upstream, server):
        with pytest.raises(NotSent, match="certificate"):
            await ask(upstream, body=b"1")
    assert server.requests == []
