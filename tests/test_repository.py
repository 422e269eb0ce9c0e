"""What must hold for the tree itself: pins, what the wheel carries, and words that do not belong.

The patterns are written so that this file does not match itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import needs_real

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
TARGETS = {"help", "demo", "test", "check", "lock", "bench", "clean"}

INDEX_HOST = re.compile(r"p[y]pi[.]o[r]g|p[y]thonhosted[.]|n[p]mjs[.]|deb[.]d[e]bian[.]|/simpl[e]/")
MACHINE_PATH = re.compile(r"(?<![\w./-])/(work|root)(?![\w-])|/o[p]t/\w|[.]pyen[v]")
WAY_TO_SKIP = re.compile(r"pytest\.(skip|importorskip|mark\.skip)|unittest\.skip|SkipTes[t]")


def ignored() -> list[str]:
    """Return the name patterns of ``.gitignore``, without git, which a tarball does not have."""
    lines = (ROOT / ".gitignore").read_text().splitlines()
    return [".git", *(line.strip("/") for line in lines if line and not line.startswith("#"))]


def files_under(top: Path) -> Iterator[Path]:
    """Yield every file below ``top`` that the repository does not ignore."""
    patterns = ignored()
    for folder, folders, names in os.walk(top):
        folders[:] = [n for n in folders if not any(fnmatch(n, p) for p in patterns)]
        yield from (Path(folder, n) for n in names if not any(fnmatch(n, p) for p in patterns))


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(name: str) -> dict[str, str]:
    """Return the exact version of each package that ``requirements/<name>.txt`` pins."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


def places(pattern: re.Pattern[str], top: Path = ROOT) -> list[str]:
    """Return ``path:line`` of each line below ``top`` that matches; files that are no text pass."""
    seen = []
    for path in files_under(top):
        lines = path.read_bytes().decode(errors="replace").splitlines()
        shown = path.relative_to(ROOT)
        seen += [f"{shown}:{n}" for n, line in enumerate(lines, 1) if pattern.search(line)]
    return seen


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_every_requirement_is_one_version_with_at_least_one_hash(path: Path) -> None:
    requirements = path.read_text().replace("\\\n", " ").splitlines()
    assert requirements
    loose = [
        line
        for line in requirements
        if not re.fullmatch(r"[\w.-]+==\S+( ;.*?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*", line)
    ]
    assert loose == []


def test_runtime_dev_build_and_an_old_client_are_the_requirements_there_are() -> None:
    assert [path.stem for path in REQUIREMENTS] == ["build", "dev", "openai-1.20", "runtime"]


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_no_requirements_file_says_where_packages_come_from(path: Path) -> None:
    assert not re.search(r"://|index-url|find-links|^\s*-[if]\b", path.read_text(), re.MULTILINE)


def test_what_is_tested_is_what_is_shipped() -> None:
    assert pins("runtime").items() <= pins("dev").items()


def test_the_pins_satisfy_what_the_project_asks_for() -> None:
    whole = project()
    groups, extras = whole["dependency-groups"], whole["project"]["optional-dependencies"]
    asked = {
        "runtime": whole["project"]["dependencies"],
        "dev": [*whole["project"]["dependencies"], *groups["dev"], *extras["demo"]],
        "build": [*whole["build-system"]["requires"], *groups["build"]],
        "openai-1.20": groups["openai-1-20"],
    }
    stale = [
        f"{name}: {wanted}"
        for name, texts in asked.items()
        for wanted in map(Requirement, texts)
        if pins(name).get(canonicalize_name(wanted.name), "0") not in wanted.specifier
    ]
    assert stale == [], "run `make lock`"


def test_no_file_names_a_package_index() -> None:
    assert places(INDEX_HOST) == []


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    assert places(MACHINE_PATH) == []


def test_a_test_is_left_out_in_one_place_only() -> None:
    files = {place.split(":")[0] for place in places(WAY_TO_SKIP, ROOT / "tests")}
    assert files == {"tests/conftest.py"}


def test_make_help_tells_of_every_target() -> None:
    make = shutil.which("make")
    needs_real("make", found=make is not None, how="apt-get install make")
    rules = re.findall(r"^([a-z-]+):(?! export)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(rules) == TARGETS
    told = subprocess.run([str(make), "-s", "help"], cwd=ROOT, capture_output=True, check=True)
    lines = re.findall(r"^  make (\S+) +\S+", told.stdout.decode(), re.MULTILINE)
    assert set(lines) == TARGETS


def test_the_readme_opens_with_how_to_see_it_and_how_to_test_it() -> None:
    opening = "\n".join((ROOT / "README.md").read_text().splitlines()[:40])
    assert 0 <= opening.find("make demo") < opening.find("make test")


def test_the_wheel_carries_the_package_the_policies_and_the_dashboards(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        inside = {name for name in packed.namelist() if ".dist-info/" not in name}
    folders = {"gateway": "gateway", "policies": "gateway/_policies"}
    folders["dashboards"] = "gateway/_dashboards"
    wanted = {
        f"{target}/{path.relative_to(ROOT / source).as_posix()}"
        for source, target in folders.items()
        for path in files_under(ROOT / source)
    }
    assert inside == wanted
    assert "gateway/py.typed" in inside


@pytest.fixture
def suite_that_wants_a_part(tmp_path: Path) -> Path:
    """A suite of its own with our conftest: two tests want a part that is not there."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_parts.py").write_text(
        "import pytest\n"
        "from conftest import needs_real\n"
        "@pytest.fixture(scope='session')\n"
        "def part():\n"
        "    needs_real('nosuchtool', found=False, how='apt-get install nosuch (main)')\n"
        "def test_through_a_fixture(part): pass\n"
        "def test_in_the_body(): needs_real('nosuchtool', found=False, "
        "how='apt-get install nosuch (main)')\n"
        "def test_that_has_its_part(): needs_real('python', found=True, how='-')\n"
    )
    return tmp_path


def run_suite(suite: Path, *, require_all: str, workers: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"-n{workers}", "."]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV_"))}
    return subprocess.run(
        command,
        cwd=suite,
        env={**inherited, "REQUIRE_ALL": require_all},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_part_is_told_with_what_it_cost(
    suite_that_wants_a_part: Path, workers: int
) -> None:
    done = run_suite(suite_that_wants_a_part, require_all="", workers=workers)
    line = "left out for want of nosuchtool: 2 tests (apt-get install nosuch (main))"
    assert line in done.stdout.splitlines()
    assert "1 passed, 2 skipped" in done.stdout
    assert done.returncode == 0


def test_a_missing_part_fails_the_run_where_every_part_is_required(
    suite_that_wants_a_part: Path,
) -> None:
    done = run_suite(suite_that_wants_a_part, require_all="1", workers=0)
    assert "left out" not in done.stdout
    # The fixture counts as an error of its test, the body as a failure.
    assert re.search(r"1 failed, 1 passed, 1 error", done.stdout)
    assert done.returncode == 1
