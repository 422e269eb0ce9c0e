"""The dashboard and the alerts speak of metrics that exist, and say what they are meant to say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from string import Template
from typing import Any

import promql_parser
import pytest

from tests.conftest import needs_real
from tests.test_telemetry import families, told_everything

FOLDER = Path(__file__).resolve().parent.parent / "dashboards"
BOARD: dict[str, Any] = json.loads((FOLDER / "gateway.json").read_text())
PANELS: list[dict[str, Any]] = BOARD["panels"]
SHOWING = [panel for panel in PANELS if panel["type"] != "row"]
RULES = (FOLDER / "rules.yml").read_text()
UNITS = {"currencyUSD", "percentunit", "reqps", "s", "short"}
GRID_WIDTH = 24

# What Grafana would put in the place of its variables: all teams, an hour that is looked at.
CHOSEN = {"__rate_interval": "5m", "__interval": "1h", "__range": "1h"}


def filled_in(expression: str, *, team: str = ".*", operation: str = ".*") -> str:
    """Return an expression as Grafana sends it.

    Raises:
        KeyError: it names a variable that the dashboard does not have.
    """
    return Template(expression).substitute(CHOSEN, team=team, operation=operation)


def panel_expressions() -> Iterator[tuple[str, str]]:
    """Yield the title and each expression of every panel."""
    for panel in SHOWING:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def rule_expressions() -> Iterator[tuple[str, str]]:
    """Yield the name and expression of every alert; `expr` is one line or a ``|`` block."""
    rule = re.compile(r"- alert: (\w+)\n +expr: (?:\|\n((?: {10}.*\n)+)|(.+)\n)")
    for name, block, line in rule.findall(RULES):
        yield name, textwrap.dedent(block) if block else line


def variable_expressions() -> Iterator[tuple[str, str, str]]:
    """Yield the name, selector and label of every variable that Prometheus fills."""
    for variable in BOARD["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
            assert found is not None, variable["definition"]
            yield variable["name"], found[1], found[2]


EXPRESSIONS = [*panel_expressions(), *rule_expressions()]


def titled(title: str) -> dict[str, Any]:
    (panel,) = (panel for panel in SHOWING if panel["title"] == title)
    return panel


def labels_by_series() -> dict[str, set[str]]:
    """Return every series name there is, with its labels."""
    known: dict[str, set[str]] = {}
    for family in families(told_everything()):
        for sample in family.samples:
            known.setdefault(sample.name, set()).update(sample.labels)
    return known


def nodes(tree: object) -> Iterator[Any]:
    """Yield every node of a parsed expression, the root first."""
    yield tree
    inside = (
        getattr(tree, name, None) for name in ("lhs", "rhs", "expr", "param", "vector_selector")
    )
    for child in (*inside, *getattr(tree, "args", ())):
        if child is not None:
            yield from nodes(child)


def selectors(tree: object) -> list[promql_parser.VectorSelector]:
    return [node for node in nodes(tree) if isinstance(node, promql_parser.VectorSelector)]


def label_faults(tree: object) -> list[str]:
    """Return each name in the expression that no metric has."""
    known, faults = labels_by_series(), []
    for selector in selectors(tree):
        labels = known.get(selector.name or "")
        if labels is None:
            faults.append(f"no metric {selector.name}")
            continue
        matched = {matcher.name for matcher in selector.matchers.matchers}
        faults += [f"{selector.name} has no label {name}" for name in matched - labels]
    for node in nodes(tree):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            for selector in selectors(node.expr):
                lacking = set(node.modifier.labels) - known.get(selector.name or "", set())
                faults += [f"{selector.name} cannot be grouped by {name}" for name in lacking]
    return faults


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    needs_real("promtool", found=found is not None, how="apt-get install prometheus")
    return str(found)


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_every_name_in_an_expression_is_a_metric_or_a_label_it_has(
    title: str, expression: str
) -> None:
    tree = promql_parser.parse(filled_in(expression))
    assert selectors(tree), title
    assert label_faults(tree) == []


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("rate(aoaigw_request_total[5m])", "no metric aoaigw_request_total"),
        ('aoaigw_tokens_total{model="x"}', "aoaigw_tokens_total has no label model"),
        (
            "sum by (le, team) (rate(aoaigw_request_duration_seconds_bucket[5m]))",
            "aoaigw_request_duration_seconds_bucket cannot be grouped by team",
        ),
        ("1 + -(sum(aoaigw_x) or vector(0))", "no metric aoaigw_x"),
    ],
)
def test_a_name_that_does_not_exist_is_found_wherever_it_stands(
    expression: str, fault: str
) -> None:
    assert label_faults(promql_parser.parse(expression)) == [fault]


@pytest.mark.parametrize(("name", "selector", "label"), [*variable_expressions()])
def test_a_variable_takes_its_values_from_a_label_that_exists(
    name: str, selector: str, label: str
) -> None:
    tree = promql_parser.parse(filled_in(selector))
    assert label_faults(tree) == []
    assert label == name
    assert label in labels_by_series()[selectors(tree)[0].name or ""]


def test_every_metric_is_shown_in_a_panel() -> None:
    shown = {
        selector.name
        for _, expression in panel_expressions()
        for selector in selectors(promql_parser.parse(filled_in(expression)))
    }
    hidden = [
        family.name
        for family in families(told_everything())
        if not shown & {sample.name for sample in family.samples}
    ]
    assert hidden == []


def test_a_legend_names_labels_that_its_expression_keeps() -> None:
    for panel in SHOWING:
        for target in panel["targets"]:
            tree = promql_parser.parse(filled_in(target["expr"]))
            kept = {
                name
                for node in nodes(tree)
                if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None
                for name in node.modifier.labels
            }
            named = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
            assert named <= kept, panel["title"]
            if panel["type"] == "timeseries":
                assert target["legendFormat"], panel["title"]


def test_a_table_renames_the_columns_it_has() -> None:
    for panel in SHOWING:
        if panel["type"] != "table":
            continue
        several = len(panel["targets"]) > 1
        columns = {
            f"Value #{target['refId']}" if several else "Value" for target in panel["targets"]
        }
        for target in panel["targets"]:
            assert (target["format"], target["instant"]) == ("table", True)
            grouped = re.search(r"by \(([^)]+)\)", target["expr"].replace("(le, ", "("))
            assert grouped is not None
            columns |= set(grouped[1].split(", "))
        renamed = panel["transformations"][-1]["options"]["renameByName"]
        assert set(renamed) == columns, panel["title"]
        shown = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
        sorted_by = {field["displayName"] for field in panel["options"]["sortBy"]}
        assert shown | sorted_by <= set(renamed.values()), panel["title"]


def test_ids_and_titles_are_unique() -> None:
    for key in ("id", "title"):
        seen = [panel[key] for panel in PANELS]
        assert len(seen) == len(set(seen)), key
    for panel in SHOWING:
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)), panel["title"]


def test_no_two_panels_overlap_and_none_leaves_the_grid() -> None:
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["w"] > 0
        assert place["h"] > 0
        assert 0 <= place["x"] <= GRID_WIDTH - place["w"]
    for one, other in combinations(PANELS, 2):
        a, b = one["gridPos"], other["gridPos"]
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, (one["title"], other["title"])


def test_the_grid_has_no_holes() -> None:
    """Grafana would pull panels up into a hole, and the arrangement would not be this one."""
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in PANELS)
    covered = sum(panel["gridPos"]["w"] * panel["gridPos"]["h"] for panel in PANELS)
    assert covered == GRID_WIDTH * height


def test_every_panel_is_explained_has_a_unit_and_asks_the_chosen_source() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in SHOWING:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["datasource"] == chosen
        assert all(target["datasource"] == chosen for target in panel["targets"])


def test_money_is_shown_in_dollars_and_time_in_seconds() -> None:
    for panel in SHOWING:
        fields = panel["fieldConfig"]
        units = {fields["defaults"]["unit"]}
        units |= {
            each["value"]
            for override in fields["overrides"]
            for each in override["properties"]
            if each["id"] == "unit"
        }
        text = " ".join(target["expr"] for target in panel["targets"])
        is_ratio = "percentunit" in units
        assert ("nano_usd" in text and not is_ratio) == ("currencyUSD" in units), panel["title"]
        assert ("/ 1e9" in text) == ("currencyUSD" in units), panel["title"]
        assert bool(re.search(r"_seconds(_bucket)?\b", text)) == ("s" in units), panel["title"]


def test_bars_count_what_happened_within_them() -> None:
    """An `increase` over less than a bar loses some, over more it counts some twice."""
    for panel in SHOWING:
        custom = panel["fieldConfig"]["defaults"].get("custom", {})
        texts = [target["expr"] for target in panel["targets"]]
        is_bars = custom.get("drawStyle") == "bars"
        assert is_bars == any("[$__interval]" in text for text in texts), panel["title"]
        assert is_bars == ("interval" in panel), panel["title"]


def test_the_dashboard_has_a_fixed_uid_and_offers_source_and_teams() -> None:
    assert BOARD["uid"] == "aoai-gateway"
    assert BOARD["schemaVersion"] >= 36
    assert BOARD["id"] is None
    variables = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["team"]["allValue"] == ".*"


def test_a_panel_narrows_to_the_chosen_team_wherever_a_metric_knows_teams() -> None:
    known = labels_by_series()
    for title, expression in panel_expressions():
        for selector in selectors(promql_parser.parse(filled_in(expression, team="risk|quant"))):
            narrowed = ("team", "risk|quant") in {
                (matcher.name, matcher.value) for matcher in selector.matchers.matchers
            }
            assert narrowed == ("team" in known[selector.name or ""]), title


def test_promtool_accepts_the_rules_and_sees_as_many_as_are_read_here(promtool: str) -> None:
    command = [promtool, "check", "rules", "--lint-fatal", str(FOLDER / "rules.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = [name for name, _ in rule_expressions()]
    assert f"{len(names)} rules found" in done.stdout
    assert len(set(names)) == len(names) == RULES.count("- alert:")


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in RULES.split("- alert: ")[1:]:
        assert re.search(r"severity: (page|ticket)\n", rule)
        assert re.search(r"\n +summary: ", rule)
        assert re.search(r"\n +description: >-\n", rule)


def test_the_alerts_do_what_their_tests_say(promtool: str) -> None:
    command = [promtool, "test", "rules", str(FOLDER / "rules_test.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tested = (FOLDER / "rules_test.yml").read_text()
    assert [name for name, _ in rule_expressions() if f"alertname: {name}\n" not in tested] == []


HOUR = "x60"
"""An hour of one sample a minute, after the first: a step of 1 adds up to 60."""

SERIES = {
    'spend_nano_usd_total{team="risk", meter="code_interpreter_session", confidence="exact"}': (
        f"0+30000000{HOUR}"
    ),
    'spend_nano_usd_total{team="risk", meter="output_tokens", confidence="estimated"}': (
        f"0+10000000{HOUR}"
    ),
    'spend_nano_usd_total{team="quant", meter="output_tokens", confidence="exact"}': f"5+0{HOUR}",
    'spend_credited_nano_usd_total{team="risk", meter="code_interpreter_session"}': (
        f"0+5000000{HOUR}"
    ),
    'sessions_opened_total{team="risk", scope="thread"}': f"0+2{HOUR}",
    'sessions_opened_total{team="quant", scope="container"}': f"0+1{HOUR}",
    'sessions_reversed_total{team="risk", scope="thread"}': f"0+1{HOUR}",
    'sessions_open{team="risk", instance="a"}': f"4{HOUR}",
    'sessions_open{team="risk", instance="b"}': f"4{HOUR}",
    'sessions_open{team="quant", instance="a"}': f"1{HOUR}",
    'tokens_total{team="risk", deployment="gpt-4o", meter="output_tokens"}': f"0+500{HOUR}",
    'tokens_total{team="risk", deployment="gpt-4o", meter="input_tokens"}': f"0+100{HOUR}",
    'tokens_credited_total{team="risk", deployment="gpt-4o", meter="output_tokens"}': (
        f"0+50{HOUR}"
    ),
    "requests_in_flight": f"0{HOUR}",
    'request_duration_seconds_bucket{operation="files.list", le="0.1"}': f"0+90{HOUR}",
    'request_duration_seconds_bucket{operation="files.list", le="0.25"}': f"0+95{HOUR}",
    'request_duration_seconds_bucket{operation="files.list", le="+Inf"}': f"0+100{HOUR}",
}

MEANT: dict[str, dict[str, float]] = {
    "Spend": {"{}": 2.10},
    "Code-interpreter spend": {"{}": 1.50},
    "Sessions charged": {"{}": 120},
    "Sessions open now": {"{}": 5},
    "Sessions open by team": {'{team="risk"}': 4, '{team="quant"}': 1},
    "Estimated share of spend": {"{}": 0.25},
    "Stops at a cap": {"{}": 0},
    "Spend by team": {'{team="risk"}': 2.40, '{team="quant"}': 0},
    "Spend by team and meter": {
        '{team="risk", meter="code_interpreter_session"}': 1.50,
        '{team="risk", meter="output_tokens"}': 0.60,
        '{team="quant", meter="output_tokens"}': 0,
    },
    "Tokens per minute by meter": {'{meter="input_tokens"}': 100, '{meter="output_tokens"}': 500},
    "Tokens by team, deployment and meter": {
        '{team="risk", deployment="gpt-4o", meter="input_tokens"}': 6_000,
        '{team="risk", deployment="gpt-4o", meter="output_tokens"}': 27_000,
    },
    "Latency p95 by operation": {'{operation="files.list"}': 0.25},
}


def test_panels_show_the_amounts_they_are_meant_to_show(promtool: str, tmp_path: Path) -> None:
    story = {
        "interval": "1m",
        "input_series": [
            {"series": f"aoaigw_{name}", "values": values} for name, values in SERIES.items()
        ],
        "promql_expr_test": [
            {
                "expr": f"round({filled_in(titled(title)['targets'][0]['expr'])}, 0.000001)",
                "eval_time": "60m",
                "exp_samples": [{"labels": k, "value": v} for k, v in samples.items()],
            }
            for title, samples in MEANT.items()
        ],
    }
    # Every JSON document is a YAML document.
    path = tmp_path / "panels.yml"
    path.write_text(json.dumps({"tests": [story]}))
    done = subprocess.run(
        [promtool, "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
