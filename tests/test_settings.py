"""Settings: what a file and the environment come to, and how their faults are told."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.environment import VARIABLES
from gateway.settings import (
    DeploymentSettings,
    Listen,
    Secret,
    Settings,
    SettingsFaults,
    TeamSettings,
    UpstreamSettings,
    load_pepper,
    load_settings,
    settings_schema,
    sqlite_path,
)
from gateway.settings_file import GatewayFile

AZURE = {
    "AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com/",
    "AZURE_OPENAI_API_KEY": "azure-secret",
}
UPSTREAM = """
[[upstream]]
name = "azure"
kind = "azure-openai"
endpoint = "https://x.openai.azure.com"
api_key = "env:KEY"
"""
PEPPER = "0123456789abcdef" * 4


def written(folder: Path, text: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    return load_settings(written(folder, text), {"KEY": "azure-secret"} | dict(environ or {}))


def faults(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsFaults) as caught:
        load(folder, text, environ)
    return caught.value.faults


def test_two_variables_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, AZURE) == Settings(
        listen=Listen(),
        store_url=f"sqlite:///{tmp_path}/aoai-gateway.db",
        spool_dir=tmp_path / "aoai-gateway-spool",
        spool_quota_bytes=4096 * 1024 * 1024,
        policies_dir=None,
        upstreams=(
            UpstreamSettings(
                "azure", "azure-openai", "https://x.openai.azure.com", Secret("azure-secret")
            ),
        ),
        deployments=(),
        teams=(TeamSettings("default", "default"),),
        key_pepper=None,
        scrape_token=None,
        settle_timeout_s=10,
        drain_s=30,
        request_bytes_max=16 * 1024 * 1024,
    )


def test_both_planes_listen_on_this_machine_only_unless_told_otherwise() -> None:
    assert Listen().data_host == Listen().admin_host == "127.0.0.1"


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, "`AZURE_OPENAI_ENDPOINT`, `AZURE_OPENAI_API_KEY`"),
        ({"AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com"}, "`AZURE_OPENAI_API_KEY`"),
        ({"AZURE_OPENAI_API_KEY": "k"}, "`AZURE_OPENAI_ENDPOINT`"),
    ],
)
def test_without_an_upstream_the_fault_says_what_to_set(
    environ: dict[str, str], named: str
) -> None:
    with pytest.raises(SettingsFaults) as caught:
        load_settings(None, environ)
    assert caught.value.faults == [
        f"upstream: there is none; set {named}, or write an `[[upstream]]` into `gateway.toml`"
    ]


def test_a_file_says_everything_and_paths_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    for name in ("chain.pem", "key.pem"):
        (tmp_path / name).write_text("-", encoding="ascii")
    (tmp_path / "scrape").write_text("scrape-secret\n", encoding="ascii")
    settings = load(
        tmp_path,
        """
        policies = "rules"
        scrape_token = "file:scrape"
        key_pepper = "env:PEPPER"
        settle_timeout_s = 2.5
        drain_s = 0
        request_bytes_max = 2048
        [listen]
        data = ":8443"
        admin = "[::1]:9000"
        tls_cert = "chain.pem"
        tls_key = "key.pem"
        trusted_proxies = ["10.0.0.0/8", "::1"]
        [store]
        url = "sqlite:///data/ledger.db"
        [spool]
        dir = "incoming"
        quota_bytes = 1048576
        [[deployment]]
        name = "chat"
        model = "gpt-4o"
        type = "standard"
        region = "swedencentral"
        [[team]]
        id = "blue"
        name = "Blue Team"
        [[team]]
        id = "green"
        """
        + UPSTREAM,
        {"PEPPER": PEPPER},
    )
    assert settings.listen == Listen(
        "0.0.0.0",
        8443,
        "::1",
        9000,
        tmp_path / "chain.pem",
        tmp_path / "key.pem",
        ("10.0.0.0/8", "::1"),
    )
    assert settings.store_url == f"sqlite:///{tmp_path}/data/ledger.db"
    assert settings.spool_dir == tmp_path / "incoming"
    assert settings.spool_quota_bytes == 1_048_576
    assert settings.policies_dir == tmp_path / "rules"
    assert settings.deployments == (
        DeploymentSettings("chat", "gpt-4o", "standard", "swedencentral", "azure"),
    )
    assert settings.teams == (TeamSettings("blue", "Blue Team"), TeamSettings("green", "green"))
    assert settings.scrape_token == Secret("scrape-secret")
    assert settings.key_pepper == Secret(PEPPER)
    assert (settings.settle_timeout_s, settings.drain_s) == (2.5, 0)
    assert settings.request_bytes_max == 2048


def test_the_spool_lies_beside_the_ledger_by_default(tmp_path: Path) -> None:
    settings = load(tmp_path, '[store]\nurl = "sqlite:///data/x.db"' + UPSTREAM)
    assert settings.spool_dir == tmp_path / "data" / "aoai-gateway-spool"


def test_an_absolute_database_stays_where_it_is(tmp_path: Path) -> None:
    settings = load(tmp_path, '[store]\nurl = "sqlite:////var/lib/x.db"' + UPSTREAM)
    assert sqlite_path(settings.store_url) == Path("/var/lib/x.db")


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        """
        polices = "x"
        drain_s = "long"
        [listen]
        data = "127.0.0.1:99999"
        tls_cert = "none.pem"
        [spool]
        quota_bytes = "many"
        [[upstream]]
        name = "a/b"
        kind = "azur"
        endpoint = "http://x.openai.azure.com"
        api_key = "literal-secret"
        [[upstream]]
        name = "b"
        kind = "foundry"
        endpoint = "https://x.services.ai.azure.com/api"
        api_key = "env:NOPE"
        [[deployment]]
        name = "gpt"
        model = 4
        upstream = "c"
        [[team]]
        id = "x"
        [[team]]
        id = "x"
        """,
        {"AOAIGW_LISTEN_DTA": "x"},
    )
    places = [fault.partition(": ")[0] for fault in found]
    assert sorted(places) == sorted(
        [
            "polices",
            "drain_s",
            "listen.data",
            "listen.tls_cert",
            "spool.quota_bytes",
            "upstream[0].name",
            "upstream[0].kind",
            "upstream[0].endpoint",
            "upstream[0].api_key",
            "upstream[1].endpoint",
            "upstream[1].api_key",
            "deployment[0].model",
            "AOAIGW_LISTEN_DTA",
            "team",
            "deployment[0].upstream",
            "listen",
        ]
    )
    assert "upstream[0].kind: `azur` is not one of `azure-openai`, `foundry`" in found
    assert "spool.quota_bytes: `many` is not an integer" in found
    assert not any("literal-secret" in fault for fault in found)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "[listen]\nadimn = ':1'",
            "listen.adimn: unknown key; did you mean `admin`; "
            "allowed: `admin`, `connections_max`, `data`, `tls_cert`, `tls_key`, `trusted_proxies`",
        ),
        ("[listen]\ndata = '8080'", "listen.data: `8080` is not an address such as "),
        ("listen = 3", "listen: `3` is not a table"),
        ("upstream = 3", "upstream: `3` is not a list"),
        ("team = [3]", "team[0]: `3` is not a table"),
        ("[[team]]\nname = 'x'", "team[0].id: is missing"),
        ("[[team]]\nid = 'a b'", "team[0].id: `a b` must be 1 to 64 letters, digits"),
        ("[spool]\nquota_bytes = 1", "spool.quota_bytes: `1` is less than `1048576`"),
        ("[spool]\nquota_bytes = 1.5", "spool.quota_bytes: `1.5` is not an integer"),
        ("settle_timeout_s = 0", "settle_timeout_s: `0` is not more than `0"),
        ("drain_s = inf", "drain_s: `inf` is more than `3600"),
        ("drain_s = true", "drain_s: `True` is not a number"),
        ("[store]\nurl = 'mysql://u:p@h/d'", "store.url: must be `sqlite:///PATH` or"),
        ("[store]\nurl = 'sqlite:///'", "store.url: must be `sqlite:///PATH` or"),
        ("[store]\nurl = 'sqlite:///:memory:'", "store.url: must be `sqlite:///PATH` or"),
        ("policies = 'gone'", "policies: there is no folder `"),
        ("[listen]\ntrusted_proxies = ['x']", "listen.trusted_proxies[0]: `x` is not an address"),
        ("[listen]\ntrusted_proxies = ['::/0']", "listen.trusted_proxies[0]: `::/0` is everybody"),
        ("[listen]\nconnections_max = 0", "listen.connections_max: "),
        (
            "[listen]\ndata = ':1'\nadmin = ':1'",
            "listen: `data` and `admin` are both `:1`; they must differ",
        ),
        ("[store]\nurl = 'postgresql://h/d'", "key_pepper: is missing, and a PostgreSQL store"),
        ("key_pepper = 'env:KEY'", "key_pepper: has 12 characters, at least 32 are needed"),
        ("key_pepper = 'file:gone'", "key_pepper: file `"),
        ("scrape_token = 7", "scrape_token: a secret is named by a string"),
        ("a = ", "not valid TOML: invalid value (at line 1, column 5)"),
    ],
)
def test_a_fault_names_its_place_and_what_is_allowed(tmp_path: Path, text: str, fault: str) -> None:
    has_upstream = "" if "upstream" in text or text == "a = " else UPSTREAM
    found = faults(tmp_path, text + "\n" + has_upstream)
    assert len(found) == 1
    assert found[0].startswith(fault)


@pytest.mark.parametrize(
    ("endpoint", "is_allowed"),
    [
        ("https://x.openai.azure.com", True),
        ("https://x.openai.azure.com/", True),
        ("https://x.openai.azure.com:8443", True),
        ("http://127.0.0.1:9000", True),
        ("http://localhost:9000", True),
        ("http://[::1]:9000", True),
        ("http://x.openai.azure.com", False),
        ("http://127.0.0.1.example.com", False),
        ("https://x.openai.azure.com/openai/v1/", False),
        ("https://x.openai.azure.com?api-version=1", False),
        ("https://user:pass@x.openai.azure.com", False),
        ("https://", False),
        ("https://x:port", False),
        ("ftp://127.0.0.1", False),
        ("x.openai.azure.com", False),
    ],
)
def test_an_endpoint_is_an_origin_and_only_this_machine_may_be_clear_text(
    tmp_path: Path, endpoint: str, is_allowed: bool
) -> None:
    text = UPSTREAM.replace("https://x.openai.azure.com", endpoint)
    if is_allowed:
        assert load(tmp_path, text).upstreams[0].endpoint == endpoint.rstrip("/")
    else:
        assert [fault.partition(": ")[0] for fault in faults(tmp_path, text)] == [
            "upstream[0].endpoint"
        ]


def test_with_two_upstreams_a_deployment_says_which(tmp_path: Path) -> None:
    two = UPSTREAM + UPSTREAM.replace('"azure"', '"other"')
    deployment = "[[deployment]]\nname = 'd'\nmodel = 'gpt-4o'\n"
    assert faults(tmp_path, two + deployment) == [
        "deployment[0].upstream: is missing; it is one of `azure`, `other`"
    ]
    settings = load(tmp_path, two + deployment + "upstream = 'other'")
    assert settings.deployments[0].upstream == "other"


def test_a_secret_that_cannot_stand_in_a_header_is_a_fault_and_not_shown(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, UPSTREAM, {"KEY": "two words"})
    assert fault.startswith("upstream[0].api_key: environment variable `KEY` holds spaces")
    assert "two words" not in fault


def test_secrets_hide_themselves(tmp_path: Path) -> None:
    settings = load(tmp_path, UPSTREAM)
    key = settings.upstreams[0].api_key
    assert key is not None
    assert key.reveal() == "azure-secret"
    assert "azure-secret" not in f"{settings!r} {settings} {key!s}"


def test_a_variable_wins_over_the_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        '[listen]\ndata = ":1"\nadmin = ":2"' + UPSTREAM,
        {
            "AOAIGW_LISTEN_DATA": "127.0.0.1:3",
            "AOAIGW_SPOOL_QUOTA_BYTES": "2097152",
            "AOAIGW_DRAIN_S": "1.5",
            "AOAIGW_LISTEN_TRUSTED_PROXIES": "10.0.0.1, 10.0.0.2",
            "AOAIGW_LISTEN_CONNECTIONS_MAX": "9",
            "AOAIGW_KEY_PEPPER": PEPPER,
        },
    )
    assert (settings.listen.data_host, settings.listen.data_port) == ("127.0.0.1", 3)
    assert settings.listen.admin_port == 2
    assert settings.spool_quota_bytes == 2_097_152
    assert settings.drain_s == 1.5
    assert settings.listen.trusted_proxies == ("10.0.0.1", "10.0.0.2")
    assert settings.listen.connections_max == 9
    assert settings.key_pepper == Secret(PEPPER)


def test_a_path_in_the_environment_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    (here / "rules").mkdir(parents=True)
    (here / "pepper").write_text(PEPPER + "\n", encoding="ascii")
    monkeypatch.chdir(here)
    settings = load(
        tmp_path,
        UPSTREAM,
        {
            "AOAIGW_STORE_URL": "sqlite:///x.db",
            "AOAIGW_POLICIES": "rules",
            "AOAIGW_SPOOL_DIR": "s",
            "AOAIGW_KEY_PEPPER": "file:pepper",
        },
    )
    assert settings.store_url == f"sqlite:///{here}/x.db"
    assert settings.policies_dir == here / "rules"
    assert settings.spool_dir == here / "s"
    assert settings.key_pepper == Secret(PEPPER)


def test_a_faulty_variable_is_named_instead_of_a_place_in_the_file(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        "",
        AZURE
        | {
            "AZURE_OPENAI_ENDPOINT": "x",
            "AOAIGW_LISTEN_DATA": "x",
            "AOAIGW_REQUEST_BYTES_MAX": "1k",
            "AOAIGW_SCRAPE_TOKEN": "",
        },
    )
    assert sorted(fault.partition(": ")[0] for fault in found) == [
        "AOAIGW_LISTEN_DATA",
        "AOAIGW_REQUEST_BYTES_MAX",
        "AOAIGW_SCRAPE_TOKEN",
        "AZURE_OPENAI_ENDPOINT",
    ]


def test_an_unknown_variable_is_a_fault_with_the_nearest_known_one(tmp_path: Path) -> None:
    assert faults(tmp_path, UPSTREAM, {"AOAIGW_STORE_ULR": "x"}) == [
        "AOAIGW_STORE_ULR: unknown environment variable; did you mean `AOAIGW_STORE_URL`"
    ]
    assert faults(tmp_path, UPSTREAM, {"AOAIGW_XYZ_PORT": "8080"}) == [
        "AOAIGW_XYZ_PORT: unknown environment variable"
    ]


def test_kubernetes_service_links_and_names_the_file_refers_to_are_no_faults(
    tmp_path: Path,
) -> None:
    links = {
        "AOAIGW_SERVICE_HOST": "10.0.0.1",
        "AOAIGW_SERVICE_PORT": "8080",
        "AOAIGW_SERVICE_PORT_DATA": "8080",
        "AOAIGW_PORT": "tcp://10.0.0.1:8080",
        "AOAIGW_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "AOAIGW_PORT_8080_TCP_PROTO": "tcp",
        "AOAIGW_PORT_8080_TCP_PORT": "8080",
        "AOAIGW_PORT_8080_TCP_ADDR": "10.0.0.1",
        "AOAIGW_ADMIN_SERVICE_HOST": "10.0.0.2",
        "AOAIGW_ADMIN_PORT": "tcp://10.0.0.2:8081",
    }
    text = UPSTREAM.replace("env:KEY", "env:AOAIGW_AZURE_KEY")
    settings = load(tmp_path, text, links | {"AOAIGW_AZURE_KEY": "mine"})
    assert settings.upstreams[0].api_key == Secret("mine")


def test_the_azure_variables_do_not_add_to_the_upstreams_of_a_file(tmp_path: Path) -> None:
    environ = AZURE | {"AZURE_OPENAI_ENDPOINT": "https://another.openai.azure.com"}
    settings = load(tmp_path, UPSTREAM, environ)
    assert [up.endpoint for up in settings.upstreams] == ["https://x.openai.azure.com"]


def test_every_variable_stands_for_a_value_of_the_file() -> None:
    for variable, (location, _) in VARIABLES.items():
        assert variable == "AOAIGW_" + "_".join(location).upper()
        assert location[0] in GatewayFile.model_fields


def test_a_report_needs_no_upstream_and_none_of_its_secrets(tmp_path: Path) -> None:
    path = written(tmp_path, UPSTREAM + "[[team]]\nid = 'blue'\n")
    settings = load_settings(path, {}, is_serving=False)
    assert settings.upstreams == ()
    assert settings.teams == (TeamSettings("blue", "blue"),)


def test_a_file_that_is_not_there_or_not_text_is_one_fault(tmp_path: Path) -> None:
    with pytest.raises(SettingsFaults, match="cannot be read: no such file or directory"):
        load_settings(tmp_path / "gone.toml", {})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsFaults, match="it must be UTF-8"):
        load_settings(tmp_path / "binary.toml", {})


def test_the_pepper_is_made_once_for_its_owner_only_and_then_kept(tmp_path: Path) -> None:
    settings = load(tmp_path, UPSTREAM)
    pepper = load_pepper(settings)
    path = tmp_path / "aoai-gateway.db.pepper"
    assert len(pepper) == 64
    assert load_pepper(settings) == pepper == path.read_bytes().strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir() if "pepper" in file.name] == [path.name]


def test_a_configured_pepper_is_used_and_none_is_made(tmp_path: Path) -> None:
    settings = load(tmp_path, UPSTREAM, {"AOAIGW_KEY_PEPPER": PEPPER})
    assert load_pepper(settings) == PEPPER.encode()
    assert not list(tmp_path.glob("*.pepper"))


def test_a_pepper_that_all_may_read_or_that_is_damaged_is_a_fault(tmp_path: Path) -> None:
    settings = load(tmp_path, UPSTREAM)
    load_pepper(settings)
    path = tmp_path / "aoai-gateway.db.pepper"
    path.chmod(0o644)
    with pytest.raises(SettingsFaults, match="can be read by all users; `chmod 600` it"):
        load_pepper(settings)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(SettingsFaults, match="is damaged; restore it from a backup"):
        load_pepper(settings)


def test_a_postgresql_store_has_its_pepper_from_elsewhere(tmp_path: Path) -> None:
    text = "[store]\nurl = 'postgresql://h/d'\n" + UPSTREAM
    settings = load(tmp_path, text, {"AOAIGW_KEY_PEPPER": PEPPER})
    assert settings.store_url == "postgresql://h/d"
    assert settings.spool_dir == tmp_path / "aoai-gateway-spool"
    assert sqlite_path(settings.store_url) is None
    with pytest.raises(SettingsFaults, match="key_pepper: is missing"):
        load_pepper(dataclasses.replace(settings, key_pepper=None))


def test_a_pepper_that_cannot_be_kept_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("-", encoding="ascii")
    settings = load(tmp_path, "[store]\nurl = 'sqlite:///file/x.db'" + UPSTREAM)
    with pytest.raises(SettingsFaults, match=r"key pepper `.*`: file exists"):
        load_pepper(settings)


def test_a_secret_in_a_file_is_text(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (fault,) = faults(tmp_path, UPSTREAM.replace("env:KEY", "file:binary"))
    assert fault == f"upstream[0].api_key: file `{tmp_path}/binary` is not text"


def test_secrets_are_equal_by_their_text_and_only_to_secrets() -> None:
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a") != "a"


def test_an_azure_key_may_lie_in_a_file_and_its_fault_names_the_variable(tmp_path: Path) -> None:
    environ = AZURE | {"AZURE_OPENAI_API_KEY": f"file:{tmp_path}/key"}
    with pytest.raises(SettingsFaults) as caught:
        load_settings(None, environ)
    assert caught.value.faults == [
        f"AZURE_OPENAI_API_KEY: file `{tmp_path}/key` cannot be read: no such file or directory"
    ]
    (tmp_path / "key").write_text("from-file\n", encoding="ascii")
    assert load_settings(None, environ).upstreams[0].api_key == Secret("from-file")


def test_a_variable_for_a_table_that_is_none_leaves_the_fault_to_the_file(tmp_path: Path) -> None:
    found = faults(tmp_path, "listen = 3\n" + UPSTREAM, {"AOAIGW_LISTEN_DATA": ":1"})
    assert found == ["listen: `3` is not a table"]


def test_the_schema_describes_every_table_and_allows_nothing_else() -> None:
    schema = settings_schema()
    properties = schema["properties"]
    assert isinstance(properties, dict)
    assert set(properties) == set(GatewayFile.model_fields)
    assert schema["additionalProperties"] is False


def test_an_upstream_may_say_its_region_and_a_file_of_prices_be_named(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").touch()
    settings = load(tmp_path, f'price_book = "prices.toml"\n{UPSTREAM}region = "swedencentral"\n')
    assert settings.price_book == tmp_path / "prices.toml"
    assert settings.upstreams[0].region == "swedencentral"
    plain = load(tmp_path, UPSTREAM)
    assert (plain.price_book, plain.upstreams[0].region) == (None, None)


def test_a_file_of_prices_that_is_not_there_is_a_fault_but_not_to_a_report(tmp_path: Path) -> None:
    text = f'price_book = "nowhere.toml"\n{UPSTREAM}'
    (fault,) = faults(tmp_path, text)
    assert fault.startswith("price_book: there is no file")
    assert load_settings(written(tmp_path, text), {}, is_serving=False).price_book is None
