"""What Azure would bill unseen is refused, wherever a body may turn it on."""

from __future__ import annotations

import pytest

from gateway.core.errors import Code, Refusal
from gateway.core.unmetered import FEATURES, FILE_SEARCH, check_feature, check_unmetered

SEARCH = {"file_search": {"vector_stores": [{"file_ids": ["f"]}]}}
ATTACHED = [{"file_id": "f", "tools": [{"type": "file_search"}]}]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"data_sources": [{}]}, "data_sources"),
        ({"web_search_options": {"a": 1}}, "web_search_options"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"tool_resources": SEARCH}, "tool_resources.file_search.vector_stores"),
        (
            {"thread": {"tool_resources": SEARCH}},
            "thread.tool_resources.file_search.vector_stores",
        ),
        ({"attachments": ATTACHED}, "attachments[0].tools"),
        ({"messages": [{}, {"attachments": ATTACHED}]}, "messages[1].attachments[0].tools"),
        (
            {"additional_messages": [{"attachments": ATTACHED}]},
            "additional_messages[0].attachments[0].tools",
        ),
        (
            {"thread": {"messages": [{"attachments": ATTACHED}]}},
            "thread.messages[0].attachments[0].tools",
        ),
    ],
)
def test_a_feature_that_no_meter_sees_is_refused_where_it_stands(
    body: dict[str, object], param: str
) -> None:
    with pytest.raises(Refusal) as caught:
        check_unmetered(body, ())
    refused = caught.value.refused
    assert (refused.code, refused.rule) == (Code.NOT_PERMITTED, "unmetered-feature")
    assert refused.param == param


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"service_tier": "auto"},
        {"service_tier": None, "data_sources": [], "web_search_options": None},
        {"tool_resources": {"file_search": {"vector_store_ids": ["vs"]}}},
        {"tool_resources": {"code_interpreter": {"file_ids": ["f"]}}},
        {"tool_resources": {"file_search": {"vector_stores": []}}},
        {"attachments": [{"file_id": "f", "tools": [{"type": "code_interpreter"}]}]},
        {"messages": "odd", "thread": 5, "attachments": [None, {"tools": 3}, {"tools": [7]}]},
        {"metadata": {"vector_stores": "words"}},
    ],
)
def test_what_is_metered_or_costs_nothing_passes(body: dict[str, object]) -> None:
    assert check_unmetered(body, ()) == frozenset()


@pytest.mark.parametrize(
    "body",
    [
        {"tool_resources": SEARCH},
        {"messages": [{}, {"attachments": ATTACHED}]},
        {"tools": [{"type": "file_search", "vector_store_ids": ["vs"]}]},
    ],
)
def test_a_permitted_feature_passes_and_is_told(body: dict[str, object]) -> None:
    assert check_unmetered(body, FEATURES) == {FILE_SEARCH}
    with pytest.raises(Refusal):
        check_unmetered(body, ())


def test_what_permits_one_feature_permits_no_other() -> None:
    with pytest.raises(Refusal):
        check_unmetered({"service_tier": "priority"}, FEATURES)


def test_an_operation_that_uses_a_feature_needs_it_permitted() -> None:
    check_feature(None, ())
    check_feature(FILE_SEARCH, {FILE_SEARCH})
    with pytest.raises(Refusal) as caught:
        check_feature(FILE_SEARCH, ())
    refused = caught.value.refused
    assert (refused.code, refused.rule) == (Code.NOT_PERMITTED, "unmetered-feature")
    assert "`models.toml`" in refused.message
