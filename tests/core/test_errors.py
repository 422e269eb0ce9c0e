"""Refusals: a closed list, in the shape that every SDK understands."""

from __future__ import annotations

import json

import pytest

from gateway.core.errors import Code, Refusal, Refused, not_found

# code, status, type, whether a retry may help
ANSWERS = [
    ("invalid_api_key", 401, "authentication_error", False),
    ("not_found", 404, "invalid_request_error", False),
    ("unknown_operation", 404, "invalid_request_error", False),
    ("method_not_allowed", 405, "invalid_request_error", False),
    ("malformed_request", 400, "invalid_request_error", False),
    ("invalid_json", 400, "invalid_request_error", False),
    ("malformed_upload", 400, "invalid_request_error", False),
    ("unsupported_api_version", 400, "invalid_request_error", False),
    ("unsupported_encoding", 415, "invalid_request_error", False),
    ("unsupported_content_type", 415, "invalid_request_error", False),
    ("unsupported_file_type", 415, "invalid_request_error", False),
    ("request_too_large", 413, "invalid_request_error", False),
    ("file_too_large", 413, "invalid_request_error", False),
    ("not_permitted", 403, "permission_error", False),
    ("unpriced_model", 403, "permission_error", False),
    ("insufficient_quota", 429, "insufficient_quota", False),
    ("insufficient_quota", 403, "permission_error", False),
    ("rate_limit_exceeded", 429, "rate_limit_error", True),
    ("internal_error", 500, "server_error", False),
    ("upstream_unreachable", 502, "server_error", True),
    ("gateway_unavailable", 503, "server_error", True),
    ("upstream_outcome_unknown", 504, "server_error", False),
    ("upstream_outcome_unknown", 502, "server_error", False),
]


def test_the_list_is_closed_and_each_code_has_its_status_type_and_advice() -> None:
    assert [
        (
            code.word,
            code.status,
            json.loads(Refused(code, "m").body())["error"]["type"],
            code.may_retry,
        )
        for code in Code
    ] == ANSWERS


@pytest.mark.parametrize("code", Code)
def test_a_refusal_speaks_azures_shape_and_nothing_more(code: Code) -> None:
    body = Refused(code, "no `ä`", param="file", rule="r").body()
    assert json.loads(body).keys() == {"error"}
    error = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["message"], error["param"], error["code"]) == ("no `ä`", "file", code.word)
    assert "ä".encode() in body
    assert not body.endswith(b"\n")


@pytest.mark.parametrize("code", Code)
def test_only_where_a_retry_may_help_is_it_not_forbidden(code: Code) -> None:
    headers = dict(Refused(code, "m").reply_headers())
    assert headers[b"content-type"] == b"application/json"
    assert headers.get(b"x-should-retry") == (None if code.may_retry else b"false")
    assert not any(name.startswith(b"retry-after") for name in headers)


def test_a_refusals_own_headers_go_with_it() -> None:
    refused = Refused(Code.RATE_LIMIT_EXCEEDED, "m", headers=(("retry-after", "2"),))
    assert (b"retry-after", b"2") in refused.reply_headers()


def test_a_refusal_carries_the_whole_answer_and_says_it_in_short() -> None:
    refusal = Refusal(Code.NOT_PERMITTED, "m", param="p", rule="r", headers=(("a", "b"),))
    assert refusal.refused == Refused(Code.NOT_PERMITTED, "m", "p", "r", (("a", "b"),))
    assert str(refusal) == "not_permitted: m"


def test_foreign_unknown_and_deleted_ids_get_byte_equal_answers() -> None:
    assert not_found().refused.body() == not_found().refused.body()
    assert not_found().refused.code is Code.NOT_FOUND
    assert json.loads(not_found().refused.body())["error"]["param"] is None
