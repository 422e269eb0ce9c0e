"""Uploads from other languages arrive at Azure as they were meant: name, bytes and purpose."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from tests.clients.forms import PURPOSE, WRITERS
from tests.clients.playing import street_with_one_session, went_well
from tests.street.living import VERSION, Street

pytestmark = pytest.mark.anyio

TARGETS = (f"/openai/files?api-version={VERSION}", "/openai/v1/files")
NAMES = ("table.csv", "Quarterly figures (1).csv", "Umsätze 2026.csv", "表格.csv", 'the "new".csv')
CONTENT = "month,net\nJänner,1\n".encode() * 20_000
# This writer puts the name as it stands, without quotes: what is no token has no one reading.
TOKENS_ONLY = "azure_assistants_dotnet"
# Neither quotes a quote inside quotes, so with one in the name there is no one reading either.
NEVER_QUOTES = {"openai_dotnet", "dotnet_http_client", "apache_http_client"}
NEVER_QUOTES |= {"dotnet_without_last_line_end"}


def _can_write(writer: str, name: str) -> bool:
    if writer == TOKENS_ONLY:
        return name == "table.csv"
    return '"' not in name or writer not in NEVER_QUOTES


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body in pieces of uneven length, which are sent as chunks of HTTP/1.1."""
    at, length = 0, 1
    while at < len(body):
        yield body[at : at + length]
        at, length = at + length, min(length * 3 + 1, 65_536)


async def _send(
    street: Street, target: str, form: tuple[str, bytes], *, is_chunked: bool
) -> tuple[int, str]:
    content_type, body = form
    answer = await street.blue.post(
        target,
        content=_pieces(body) if is_chunked else body,
        headers={"content-type": content_type},
    )
    return answer.status_code, answer.text


def _arrived(row: Mapping[str, Any], filename: str) -> None:
    parts = {part["name"]: part for part in row["form"]}
    assert set(parts) == {"purpose", "file"}
    assert parts["file"]["filename"] == filename
    assert parts["file"]["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert parts["purpose"]["sha256"] == hashlib.sha256(PURPOSE.encode()).hexdigest()


@pytest.mark.parametrize("writer", WRITERS)
async def test_an_upload_arrives_as_it_was_meant(tmp_path: Path, writer: str) -> None:
    async with street_with_one_session(tmp_path) as street:
        names = [name for name in NAMES if _can_write(writer, name)]
        for name in names:
            form = WRITERS[writer](name, CONTENT)
            for target in TARGETS:
                for is_chunked in (False, True):
                    mark = await street.mark()
                    status, said = await _send(street, target, form, is_chunked=is_chunked)
                    assert status < 300, (name, said)
                    (row,) = await street.journal(mark)
                    # On the wire a quote inside a name stands as `%22` (WHATWG HTML).
                    _arrived(row, name.replace('"', "%22"))
        await went_well(street, sessions=0, refusals={})


@pytest.mark.parametrize("quotes", [True, False])
async def test_aiohttp_names_a_file_in_percents_unless_told_not_to(
    tmp_path: Path, quotes: bool
) -> None:
    async with street_with_one_session(tmp_path) as street, aiohttp.ClientSession() as session:
        for name in NAMES:
            mark = await street.mark()
            form = aiohttp.FormData({"purpose": PURPOSE}, quote_fields=quotes)
            form.add_field("file", CONTENT, filename=name)
            headers = {"api-key": street.keys["blue"]}
            async with session.post(street.url + TARGETS[0], data=form, headers=headers) as answer:
                assert answer.status < 300, await answer.text()
            (row,) = await street.journal(mark)
            _arrived(row, quote(name, safe="") if quotes else name.replace('"', "%22"))
        await went_well(street, sessions=0, refusals={})
