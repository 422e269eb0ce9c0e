"""The policy files: read, checked, and turned into the values that the core decides by.

One folder, five files; each is owned by whoever answers for it, and says so in its head. A file
that is missing or has a fault stops the start (and leaves the running policy in force on a
reload): a policy that cannot be read must not turn into a policy that allows. Faults of all files
are reported together, with file and place.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from gateway.core.catalogue import CATALOGUE
from gateway.core.ledger import Period, Unit
from gateway.core.model import NanoUsd
from gateway.core.policy import Cap, ModelPolicy, SpendPolicy, Subject
from gateway.core.unmetered import FEATURES
from gateway.core.uploads import FileType, Proof, UploadPolicy
from gateway.core.versions import KnownVersion, VersionPolicy
from gateway.faults import SettingsFaults, hint, listed, read_toml, sentences

POLICY_FILES: Final = (
    "uploads.toml",
    "code_interpreter.toml",
    "budgets.toml",
    "models.toml",
    "api_versions.toml",
)

_RULE = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_USD = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, slots=True)
class Policies:
    """Everything an organisation allows, as one value that is replaced as a whole."""

    uploads: UploadPolicy
    spend: SpendPolicy
    versions: VersionPolicy
    models: ModelPolicy


def shipped_policies() -> Path:
    """Return the folder of the policies the gateway comes with: in a wheel, or in a checkout."""
    package = Path(str(files("gateway")))
    packed = package / "_policies"
    return packed if packed.is_dir() else package.parent / "policies"


def load_policies(folder: Path | None, teams: Collection[str] | None = None) -> Policies:
    """Return the policies of a folder, or the shipped ones if it is None.

    `teams` are the known team ids; a cap for any other is a fault. None leaves that unchecked.

    Raises:
        SettingsFaults: with every fault of all files.
    """
    folder = shipped_policies() if folder is None else folder
    faults: list[str] = []
    uploads = _load(folder / "uploads.toml", _UploadsFile, faults)
    sessions = _load(folder / "code_interpreter.toml", _SessionsFile, faults)
    budgets = _load(folder / "budgets.toml", _BudgetsFile, faults)
    models = _load(folder / "models.toml", _ModelsFile, faults)
    versions = _load(folder / "api_versions.toml", _VersionsFile, faults)
    if uploads is not None:
        faults += _upload_faults(uploads)
    if versions is not None:
        faults += _version_faults(versions)
    faults += _cap_faults(sessions, budgets, teams)
    if (
        faults
        or uploads is None
        or sessions is None
        or budgets is None
        or models is None
        or versions is None
    ):
        raise SettingsFaults(faults)
    caps = [row.cap() for row in sessions.cap] + [row.cap() for row in budgets.budget]
    return Policies(
        uploads=uploads.policy(),
        spend=SpendPolicy(
            caps=tuple(caps),
            cap_status=sessions.cap_status,
        ),
        versions=versions.policy(),
        models=ModelPolicy(
            tools=frozenset(models.tools),
            image_hosts=frozenset(models.image_hosts),
            unmetered=frozenset(models.unmetered),
        ),
    )


def nano_usd(text: str) -> NanoUsd:
    """Return an amount written like ``250.00`` in nano-USD, exactly.

    Raises:
        ValueError: it is no plain decimal number, or finer than a nano-USD.
    """
    found = _USD.fullmatch(text)
    if found is None:
        raise ValueError(
            f"`{text[:32]}` is not an amount such as `250.00`, with at most 9 decimals"
        )
    return int(found[1]) * 10**9 + int((found[2] or "").ljust(9, "0"))


def _usd(value: object) -> object:
    if isinstance(value, float):
        raise ValueError(
            'money is never a binary fraction; write it in quotes, such as `usd = "250.00"`'
        )
    if not isinstance(value, str):
        raise ValueError('money is written in quotes, such as `usd = "250.00"`')
    return nano_usd(value)


def _matching(pattern: re.Pattern[str], what: str) -> BeforeValidator:
    def check(value: object) -> object:
        if isinstance(value, str) and not pattern.fullmatch(value):
            raise ValueError(f"`{value[:64]}` is not {what}")
        return value

    return BeforeValidator(check)


def _one_of(allowed: Collection[str]) -> BeforeValidator:
    def check(value: object) -> object:
        if isinstance(value, str) and value not in allowed:
            raise ValueError(f"`{value[:64]}` is not one of {listed(allowed)}")
        return value

    return BeforeValidator(check)


_Rule = Annotated[
    str, _matching(_RULE, "a rule's name: up to 64 lower-case letters, digits and `-`")
]
_Host = Annotated[str, _matching(_HOST, "a host name such as `pictures.example.com`")]
_Date = Annotated[str, _matching(_DATE, "a date such as `2026-08-26`")]
_ProofWord = Annotated[str, _one_of([proof.value for proof in Proof])]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _CapRow(_Table):
    rule: _Rule
    subject: Literal["organisation", "team", "thread"]
    team: str | None = None
    period: Literal["day", "month"] | None = None
    sessions: int = Field(ge=0)

    def cap(self) -> Cap:
        """Return the cap this row sets."""
        return Cap(
            rule=self.rule,
            subject=Subject(self.subject),
            unit=Unit.SESSIONS,
            period=Period(self.period or "ever"),
            ceiling=self.sessions,
            team=self.team,
        )


class _BudgetRow(_Table):
    rule: _Rule
    subject: Literal["organisation", "team"]
    team: str | None = None
    period: Literal["day", "month"]
    usd: Annotated[int, BeforeValidator(_usd)]

    def cap(self) -> Cap:
        """Return the cap this row sets, in nano-USD."""
        return Cap(
            rule=self.rule,
            subject=Subject(self.subject),
            unit=Unit.NANO_USD,
            period=Period(self.period),
            ceiling=self.usd,
            team=self.team,
        )


class _SessionsFile(_Table):
    cap_status: Literal[429, 403] = 429
    cap: list[_CapRow] = []


class _BudgetsFile(_Table):
    budget: list[_BudgetRow] = []


class _ModelsFile(_Table):
    tools: list[str]
    image_hosts: list[_Host] = []
    unmetered: list[Annotated[str, _one_of(FEATURES)]] = []


class _TypeRow(_Table):
    extension: Annotated[
        str, _matching(re.compile(r"[a-z0-9]{1,16}"), "an extension such as `csv`, without a dot")
    ]
    media_types: list[str]
    proof: _ProofWord
    file_bytes_max: int | None = Field(default=None, ge=1)


class _UploadsFile(_Table):
    file_bytes_max: int = Field(ge=1)
    name_bytes_max: int = Field(ge=1, le=4096)
    type: list[_TypeRow]
    purpose: dict[str, list[str]]

    def policy(self) -> UploadPolicy:
        """Return the policy this file sets."""
        return UploadPolicy(
            types={
                row.extension: FileType(
                    extension=row.extension,
                    media_types=frozenset(row.media_types),
                    proof=Proof(row.proof),
                    file_bytes_max=row.file_bytes_max,
                )
                for row in self.type
            },
            purposes={name: frozenset(types) for name, types in self.purpose.items()},
            file_bytes_max=self.file_bytes_max,
            name_bytes_max=self.name_bytes_max,
        )


class _VersionRow(_Table):
    name: str
    sunset: _Date | None = None
    retired: bool = False


class _VersionsFile(_Table):
    default: str
    pin: str | None = None
    map: dict[str, str] = {}
    refuse: list[str] = []
    floor: dict[str, str] = {}
    version: list[_VersionRow]

    def policy(self) -> VersionPolicy:
        """Return the policy this file sets."""
        return VersionPolicy(
            default=self.default,
            pin=self.pin,
            known={
                row.name: KnownVersion(name=row.name, sunset=row.sunset, retired=row.retired)
                for row in self.version
            },
            map=dict(self.map),
            refuse=frozenset(self.refuse),
            floor=dict(self.floor),
        )


_File = TypeVar("_File", bound=_Table)


def _load(path: Path, model: type[_File], faults: list[str]) -> _File | None:
    """Return a policy file, or None after adding its faults."""
    if not path.is_file():
        faults.append(f"{path.name}: is missing in `{path.parent}`; `aoai-gateway init` writes one")
        return None
    try:
        return model.model_validate(read_toml(path))
    except SettingsFaults as unreadable:
        faults += [f"{path.name}: {fault}" for fault in unreadable.faults]
    except ValidationError as error:
        faults += [f"{path.name}: {line}" for line in sentences(error, model)]
    return None


def _cap_faults(
    sessions: _SessionsFile | None, budgets: _BudgetsFile | None, teams: Collection[str] | None
) -> Iterator[str]:
    rows: list[tuple[str, _CapRow | _BudgetRow]] = []
    if sessions is not None:
        rows += [(f"code_interpreter.toml: cap[{n}]", row) for n, row in enumerate(sessions.cap)]
    if budgets is not None:
        rows += [(f"budgets.toml: budget[{n}]", row) for n, row in enumerate(budgets.budget)]
    rules: dict[str, str] = {}
    sums: dict[tuple[str | None, ...], str] = {}
    for place, row in rows:
        counted = (type(row).__name__, row.subject, row.team, row.period)
        if counted in sums:
            yield f"{place}: counts the same as {sums[counted]}; keep the one that is meant"
        sums.setdefault(counted, place)
        if row.subject == "thread" and row.period is not None:
            yield f"{place}.period: a thread's cap holds for its whole life; leave it out"
        if row.subject != "thread" and row.period is None:
            yield f"{place}.period: is missing; it is one of `day`, `month`"
        if row.subject == "organisation" and row.team is not None:
            yield f"{place}.team: a cap of the organisation concerns every team; leave it out"
        if row.team is not None and teams is not None and row.team not in teams:
            yield f"{place}.team: `{row.team[:64]}` is not one of {listed(sorted(teams))}"
        if row.rule in rules:
            yield f"{place}.rule: `{row.rule}` is also the name of {rules[row.rule]}"
        rules.setdefault(row.rule, place)


def _upload_faults(uploads: _UploadsFile) -> Iterator[str]:
    extensions = [row.extension for row in uploads.type]
    for extension in sorted({name for name in extensions if extensions.count(name) > 1}):
        yield f"uploads.toml: type: `{extension}` is described more than once"
    for purpose, allowed in uploads.purpose.items():
        place = f"uploads.toml: purpose.{purpose}"
        for name in sorted(set(allowed) - set(extensions)):
            yield f"{place}: `{name[:64]}` is described by no `[[type]]`"


def _version_faults(versions: _VersionsFile) -> Iterator[str]:
    names = [row.name for row in versions.version]
    known = set(names)
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"api_versions.toml: version: `{name[:64]}` is listed more than once"
    named: Mapping[str, str | None] = {
        "default": versions.default,
        "pin": versions.pin,
        **{f"map.{old}": new for old, new in versions.map.items()},
        **{f"floor.{operation}": oldest for operation, oldest in versions.floor.items()},
    }
    places = [(place, name) for place, name in named.items() if name is not None]
    places += [(f"map.{old}", old) for old in versions.map]
    operations = {row.name for row in CATALOGUE}
    for operation in sorted(set(versions.floor) - operations):
        near = hint(operation, operations)
        yield f"api_versions.toml: floor: `{operation[:64]}` is no operation{near}"
    for place, name in places:
        if name not in known:
            yield f"api_versions.toml: {place}: `{name[:64]}` is described by no `[[version]]`"
