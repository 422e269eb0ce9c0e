"""The folder a new user starts from: a commented `gateway.toml` and the policies to own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gateway.faults import listed
from gateway.policies import shipped_policies

STARTER: Final = """\
# aoai-gateway: what is where. What is allowed stands in the folder `policies`.
# Check it with `aoai-gateway config check gateway.toml`, start it with `aoai-gateway serve`.
# Paths are relative to this file. Everything that is commented out shows its default or an example.

policies = "policies"

# Secrets never stand in this file: name a variable, "env:NAME", or a file, "file:PATH".
# key_pepper = "file:/run/secrets/pepper"   # with SQLite one is made beside the ledger
# scrape_token = "env:SCRAPE_TOKEN"         # if set, /metrics asks for it

# settle_timeout_s = 10                     # how long the last byte may wait for the ledger
# drain_s = 30                              # how long running streams may go on at a shutdown
# request_bytes_max = 16777216              # uploads have limits of their own, in uploads.toml

[listen]
# Only this machine can reach these. In a container, or to serve others, write ":8080" (every
# interface), and then end TLS here or in front. Keep the admin plane away from callers.
data = "127.0.0.1:8080"
admin = "127.0.0.1:8081"
# tls_cert = "tls/chain.pem"
# tls_key = "tls/key.pem"
# The proxies in front whose word counts on where a request comes from (X-Forwarded-For). A refused
# key is logged with that address; without this it is the proxy's own.
# trusted_proxies = ["10.0.0.0/8"]

[store]
# The ledger. One process serves a SQLite file. Back it up together with its `.pepper`: without it
# no key that was issued works any more.
url = "sqlite:///aoai-gateway.db"

[spool]
# Where uploads wait while they are judged, and how much they may take together.
# dir = "aoai-gateway-spool"
# quota_bytes = 4294967296

# One Azure resource. The first is what everything goes to that is not bound to another.
[[upstream]]
name = "azure"
kind = "azure-openai"
endpoint = "https://YOUR-RESOURCE.openai.azure.com"
api_key = "env:AZURE_OPENAI_API_KEY"

# A Foundry project, for calls below /api/projects/PROJECT; with `carries_dated` also for dated
# calls of assistants and threads, which Azure itself has retired. `token_file` holds an Entra
# access token that somebody keeps fresh; it is read again whenever it changes.
# [[upstream]]
# name = "agents"
# kind = "foundry"
# endpoint = "https://YOUR-RESOURCE.services.ai.azure.com/api/projects/PROJECT"
# token_file = "azure-token"
# carries_dated = true

# A deployment that is not listed counts as the model it is named like. List those whose name is
# not a model's, or whose price depends on where they run.
# [[deployment]]
# name = "chat"
# model = "gpt-4o"
# type = "global-standard"                  # or "data-zone-standard", "standard", ...
# region = "swedencentral"
# upstream = "azure"

# The id stands on every ledger line, so it must never change. `aoai-gateway keys issue --team ID`
# makes a key.
[[team]]
id = "default"
name = "Everybody"
"""


class WouldOverwrite(Exception):
    """The folder holds files of the same names; nothing was written."""


def write_starter(folder: Path) -> list[Path]:
    """Write a starter folder, making it if need be, and return the files written.

    Raises:
        WouldOverwrite: one of the files is there already; then nothing was written.
        OSError: the folder cannot be written.
    """
    shipped = shipped_policies()
    contents = {folder / "gateway.toml": STARTER}
    for source in sorted(shipped.glob("*.toml")):
        contents[folder / "policies" / source.name] = source.read_text(encoding="utf-8")
    there = [path for path in contents if path.exists()]
    if there:
        raise WouldOverwrite(f"would overwrite {listed(str(path) for path in there)}")
    (folder / "policies").mkdir(parents=True, exist_ok=True)
    for path, text in contents.items():
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    return list(contents)
