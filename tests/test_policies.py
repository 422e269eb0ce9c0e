"""The policy files: the shipped ones hold what their cases say, and every fault is told."""

from __future__ import annotations

import shutil
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ledger import Period, Unit
from gateway.core.model import SECOND, Scope, ScopeKind
from gateway.core.policy import Cap, Subject, claims
from gateway.faults import SettingsFaults
from gateway.policies import POLICY_FILES, load_policies, nano_usd, shipped_policies

AT = 1_795_466_000 * SECOND


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the shipped policies, to be spoilt."""
    return Path(shutil.copytree(shipped_policies(), tmp_path / "policies"))


def faults(folder: Path, teams: list[str] | None = None) -> list[str]:
    with pytest.raises(SettingsFaults) as caught:
        load_policies(folder, teams=teams)
    return caught.value.faults


def cases(name: str) -> list[Any]:
    text = (shipped_policies() / f"{name}.cases.toml").read_text(encoding="utf-8")
    return list(tomllib.loads(text)["case"])


def test_the_shipped_policies_have_no_fault_and_know_no_team() -> None:
    policies = load_policies(None, teams=[])
    assert policies.models.tools == {"code_interpreter", "function", "file_search"}
    assert policies.models.image_hosts == frozenset()
    assert policies.spend.cap_status == 429
    assert {cap.unit for cap in policies.spend.caps} == {Unit.SESSIONS}
    assert policies.uploads.types["csv"].extension == "csv"
    assert policies.versions.default in policies.versions.known


def test_every_policy_file_is_shipped() -> None:
    assert [name for name in POLICY_FILES if not (shipped_policies() / name).is_file()] == []


@pytest.mark.parametrize("case", cases("code_interpreter"), ids=lambda case: str(case["title"]))
def test_the_shipped_caps_decide_as_their_cases_say(case: dict[str, Any]) -> None:
    made = claims(
        load_policies(None).spend,
        team=case["team"],
        scope=Scope("azure", ScopeKind.THREAD, "thread_1") if case["thread"] else None,
        sessions=case["sessions"],
        nano_usd=0,
        at=AT,
        until=AT,
    )
    over = [
        claim.rule for claim in made if case["used"].get(claim.rule, 0) + claim.bound > claim.cap
    ]
    assert [claim.rule for claim in made] == case["claims"]
    assert over[:1] == ([case["refused_by"]] if "refused_by" in case else [])


def test_every_shipped_cap_has_a_case_that_it_refuses_and_one_that_it_permits() -> None:
    rules = {cap.rule for cap in load_policies(None).spend.caps}
    written = cases("code_interpreter")
    assert {case["refused_by"] for case in written if "refused_by" in case} == rules
    permitted = [case for case in written if "refused_by" not in case]
    assert {rule for case in permitted for rule in case["claims"]} == rules


def test_caps_and_budgets_become_caps_of_their_unit(folder: Path) -> None:
    (folder / "code_interpreter.toml").write_text(
        """
        cap_status = 403
        [[cap]]
        rule = "blue-month"
        subject = "team"
        team = "blue"
        period = "month"
        sessions = 0
        [[cap]]
        rule = "thread"
        subject = "thread"
        sessions = 3
        """,
        encoding="utf-8",
    )
    (folder / "budgets.toml").write_text(
        """
        [[budget]]
        rule = "all-day"
        subject = "organisation"
        period = "day"
        usd = "250.000000001"
        """,
        encoding="utf-8",
    )
    spend = load_policies(folder, teams=["blue"]).spend
    assert spend.cap_status == 403
    assert spend.caps == (
        Cap("blue-month", Subject.TEAM, Unit.SESSIONS, Period.MONTH, 0, "blue"),
        Cap("thread", Subject.SCOPE, Unit.SESSIONS, Period.EVER, 3),
        Cap("all-day", Subject.ORGANISATION, Unit.NANO_USD, Period.DAY, 250_000_000_001),
    )


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        (
            "budgets.toml",
            "[[budget]]\nrule='r'\nsubject='team'\nperiod='day'\nusd=250.10",
            "budgets.toml: budget[0].usd: money is never a binary fraction; write it in quotes, "
            'such as `usd = "250.00"`',
        ),
        (
            "budgets.toml",
            "[[budget]]\nrule='r'\nsubject='team'\nperiod='day'\nusd=250",
            'budgets.toml: budget[0].usd: money is written in quotes, such as `usd = "250.00"`',
        ),
        (
            "budgets.toml",
            "[[budget]]\nrule='r'\nsubject='team'\nperiod='day'\nusd='1,5'",
            "budgets.toml: budget[0].usd: `1,5` is not an amount such as `250.00`, "
            "with at most 9 decimals",
        ),
        (
            "budgets.toml",
            "[[budget]]\nrule='r'\nsubject='thread'\nperiod='day'\nusd='1'",
            "budgets.toml: budget[0].subject: `thread` is not one of `organisation`, `team`",
        ),
        (
            "budgets.toml",
            "[[budget]]\nrule='r'\nsubject='team'\nteam='bleu'\nperiod='day'\nusd='1'",
            "budgets.toml: budget[0].team: `bleu` is not one of `blue`, `green`",
        ),
        (
            "budgets.toml",
            "[[budget]]\nrule='team-day'\nsubject='team'\nperiod='day'\nusd='1'",
            "budgets.toml: budget[0].rule: `team-day` is also the name of "
            "code_interpreter.toml: cap[0]",
        ),
        (
            "code_interpreter.toml",
            "[[cap]]\nrule='r'\nsubject='thread'\nperiod='day'\nsessions=1",
            "code_interpreter.toml: cap[0].period: a thread's cap holds for its whole life; "
            "leave it out",
        ),
        (
            "code_interpreter.toml",
            "[[cap]]\nrule='r'\nsubject='team'\nsessions=1",
            "code_interpreter.toml: cap[0].period: is missing; it is one of `day`, `month`",
        ),
        (
            "code_interpreter.toml",
            "[[cap]]\nrule='r'\nsubject='organisation'\nteam='blue'\nperiod='day'\nsessions=1",
            "code_interpreter.toml: cap[0].team: a cap of the organisation concerns every team; "
            "leave it out",
        ),
        (
            "code_interpreter.toml",
            "[[cap]]\nrule='r'\nsubject='team'\nperiod='day'\nsessions=-1",
            "code_interpreter.toml: cap[0].sessions: `-1` is less than `0`",
        ),
        (
            "code_interpreter.toml",
            "[[cap]]\nrule='R 1'\nsubject='team'\nperiod='day'\nsessions=1",
            "code_interpreter.toml: cap[0].rule: `R 1` is not a rule's name: "
            "up to 64 lower-case letters, digits and `-`",
        ),
        (
            "code_interpreter.toml",
            "cap_status = 500",
            "code_interpreter.toml: cap_status: `500` is not one of `429`, `403`",
        ),
        (
            "code_interpreter.toml",
            "[[cap]]\nrule='a'\nsubject='team'\nperiod='day'\nsessions=1\n"
            "[[cap]]\nrule='b'\nsubject='team'\nperiod='day'\nsessions=2",
            "code_interpreter.toml: cap[1]: counts the same as code_interpreter.toml: cap[0]; "
            "keep the one that is meant",
        ),
        ("models.toml", "", "models.toml: tools: is missing"),
        (
            "models.toml",
            "tools = []\nimage_hosts = ['https://x.example']",
            "models.toml: image_hosts[0]: `https://x.example` is not a host name such as "
            "`pictures.example.com`",
        ),
        (
            "models.toml",
            "tools = []\ntols = []",
            "models.toml: tols: unknown key; did you mean `tools`; allowed: `image_hosts`, `tools`",
        ),
        (
            "uploads.toml",
            "file_bytes_max=1\nname_bytes_max=1\n[purpose]\nvision=['bmp']\n"
            "[[type]]\nextension='png'\nmedia_types=[]\nproof='png'",
            "uploads.toml: purpose.vision: `bmp` is described by no `[[type]]`",
        ),
        (
            "api_versions.toml",
            "default='x'\n[[version]]\nname='2024-10-21'",
            "api_versions.toml: default: `x` is described by no `[[version]]`",
        ),
        (
            "api_versions.toml",
            "default='v'\nfloor={'chat.completion'='v'}\n[[version]]\nname='v'",
            "api_versions.toml: floor: `chat.completion` is no operation; "
            "did you mean `chat.completions`",
        ),
        (
            "api_versions.toml",
            "default='v'\nfloor={'chat.completions'='w'}\n[[version]]\nname='v'",
            "api_versions.toml: floor.chat.completions: `w` is described by no `[[version]]`",
        ),
        ("api_versions.toml", "=", "api_versions.toml: not valid TOML: invalid statement"),
    ],
)
def test_a_fault_names_file_place_and_what_is_allowed(
    folder: Path, file: str, text: str, fault: str
) -> None:
    (folder / file).write_text(text, encoding="utf-8")
    found = faults(folder, teams=["green", "blue"])
    assert len(found) == 1
    assert found[0].startswith(fault)


def test_an_unknown_proof_or_a_type_described_twice_is_a_fault(folder: Path) -> None:
    row = "[[type]]\nextension='png'\nmedia_types=[]\nproof="
    head = "file_bytes_max=1\nname_bytes_max=1\n[purpose]\n"
    (folder / "uploads.toml").write_text(head + row + "'magic'", encoding="utf-8")
    assert "uploads.toml: type[0].proof: `magic` is not one of `text`" in faults(folder)[0]
    (folder / "uploads.toml").write_text(head + (row + "'png'\n") * 2, encoding="utf-8")
    assert faults(folder) == ["uploads.toml: type: `png` is described more than once"]


def test_a_file_that_is_missing_is_a_fault_and_not_an_empty_policy(folder: Path) -> None:
    (folder / "budgets.toml").unlink()
    assert faults(folder) == [
        f"budgets.toml: is missing in `{folder}`; `aoai-gateway init` writes one"
    ]


def test_faults_of_all_files_come_together(folder: Path) -> None:
    for name in POLICY_FILES:
        (folder / name).write_text("x = 1\n", encoding="utf-8")
    told = {fault.partition(":")[0] for fault in faults(folder)}
    assert told == set(POLICY_FILES)


def test_team_names_are_not_judged_without_a_list_of_teams(folder: Path) -> None:
    row = "[[budget]]\nrule='r'\nsubject='team'\nteam='bleu'\nperiod='day'\nusd='1'"
    (folder / "budgets.toml").write_text(row, encoding="utf-8")
    assert load_policies(folder).spend.caps[-1].team == "bleu"


@pytest.mark.parametrize(
    ("text", "amount"),
    [("0", 0), ("250.00", 250_000_000_000), ("0.03", 30_000_000), ("0.000000001", 1)],
)
def test_an_amount_in_usd_is_exact(text: str, amount: int) -> None:
    assert nano_usd(text) == amount


@given(st.decimals(min_value=0, max_value=999_999_999, places=9))
def test_an_amount_is_what_exact_decimals_say(amount: Decimal) -> None:
    assert nano_usd(f"{amount:f}") == int(amount.scaleb(9))


@pytest.mark.parametrize("text", ["", "-1", "+1", "1e3", ".5", "1.", "1_000", "0.0000000001", "٣"])
def test_what_is_no_plain_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an amount such as"):
        nano_usd(text)
