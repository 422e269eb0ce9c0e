"""Settings of a Foundry project: its endpoint, its token, and whether dated calls go there."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.settings import Settings, SettingsFaults, load_settings

AZURE = """
[[upstream]]
name = "azure"
kind = "azure-openai"
endpoint = "https://books.openai.azure.com/"
api_key = "env:KEY"
"""
PROJECT = """
[[upstream]]
name = "foundry"
kind = "foundry"
endpoint = "https://books.services.ai.azure.com/api/projects/shelf/"
"""


def load(folder: Path, text: str) -> Settings:
    path = folder / "gateway.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, {"KEY": "azure-key"})


def faults(folder: Path, text: str) -> str:
    with pytest.raises(SettingsFaults) as caught:
        load(folder, text)
    return "\n".join(caught.value.faults)


def test_a_project_is_read_from_the_endpoint_the_portal_shows(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a.b.c\n")
    settings = load(tmp_path, AZURE + PROJECT + 'token_file = "token"\ncarries_dated = true\n')
    azure, project = settings.upstreams

    assert (azure.endpoint, azure.project, azure.carries_dated) == (
        "https://books.openai.azure.com",
        None,
        False,
    )
    assert project.endpoint == "https://books.services.ai.azure.com"
    assert (project.project, project.carries_dated) == ("shelf", True)
    assert (project.api_key, project.token_file) == (None, tmp_path / "token")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (PROJECT, "exactly one of `api_key` and `token_file`"),
        (PROJECT + 'api_key = "env:KEY"\ntoken_file = "gateway.toml"\n', "exactly one of"),
        (PROJECT + 'token_file = "nosuch"\n', "there is no file"),
        (
            PROJECT.replace('"foundry"\nend', '"azure-openai"\nend') + 'api_key = "env:KEY"\n',
            "do not go",
        ),
        (AZURE.replace("azure-openai", "foundry"), "`/api/projects/PROJECT`"),
        (AZURE + "carries_dated = true\n", "is for a Foundry project"),
        (
            PROJECT.replace("projects/shelf", "projects/shelf/agents") + 'api_key = "env:KEY"\n',
            "must not have a path",
        ),
        (PROJECT.replace("shelf/", "-shelf") + 'api_key = "env:KEY"\n', "must not have a path"),
        (PROJECT.replace("shelf/", "shelf?x=1") + 'api_key = "env:KEY"\n', "must not have"),
    ],
)
def test_what_does_not_go_together_is_named(tmp_path: Path, text: str, says: str) -> None:
    assert says in faults(tmp_path, text)


def test_two_upstreams_cannot_be_one_project_nor_both_take_dated_calls(tmp_path: Path) -> None:
    one = PROJECT + 'api_key = "env:KEY"\ncarries_dated = true\n'
    said = faults(tmp_path, one + one.replace('"foundry"\nk', '"other"\nk'))
    assert "project `shelf` is used more than once" in said
    assert "more than one has `carries_dated`" in said
