"""Kinds of the services that scenarios are played at, with the fake server as their runtime."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path

from pool_service.access.tokens import digest, new_token
from tests.conformance.homes import IN_RUNTIME, IN_STATE
from tests.conformance.languages import LANGUAGES
from tests.fake_hub import Hub
from tests.service.conftest import FAKE, FAKE_RUNTIME

# Whoever asks a server for anything shows its key.
RUNTIME = f"""{FAKE_RUNTIME}environment = {{ FAKE_API_KEY = "{{api_key}}" }}
"""

HUB_FILES: Mapping[str, bytes] = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "model.safetensors": b"w" * 200_000,
}
HUB_BYTES = sum(map(len, HUB_FILES.values()))

# Deaths are forgiven quickly and refusals forgotten at once, since scenarios die a lot.
QUICK = """
[service]
failure_memory = 0
backoff_initial = "10ms"
crash_limit = 2
history = 100000
recovery_timeout = 20
standby = 0
[memory]
budget = "none"
reserve = "0MB"
[defaults]
grace_period = 0
drain_timeout = "20s"
"""

# Room for one of the two, and for one that waits.
TIGHT = """
[service]
standby = 0
[memory]
budget = "100 MB"
reserve = "0MB"
queue_limit = 1
queue_timeout = "1h"
[defaults]
grace_period = 0
"""
TIGHT_MODELS = """
[models.first]
expected_memory = "80 MB"
[models.second]
expected_memory = "80 MB"
[models.third]
expected_memory = "80 MB"
[models.vast]
runtime_model = "{root}/vast"
"""
VAST_BYTES = 900_000_000

LISTED = QUICK.replace("[service]\n", "[service]\nonly_listed = true\n")
LISTED_RUNTIMES = """
[runtimes.missing]
command = ['/nonexistent/runtime', '{{runtime_model}}', '--port', '{{port}}']
[runtimes.hub]
command = ['{root}/vllm-mlx', 'serve', '{{runtime_model}}', '--port', '{{port}}']
[runtimes.hub.environment]
"""
# For each language its own, so that none meets another's. `described` is started by no scenario:
# what a start leaves behind (a footprint, runs) would depend on which scenarios came before.
LISTED_MODELS = """
[groups."{who}"]
limit = 3
[models."{who}/one"]
aliases = ["{who}/uno", "{who}/eins"]
pinned = true
[models."{who}/described"]
runtime_model = "x?tokens=1"
aliases = ["{who}/told", "{who}/pictured"]
groups = ["{who}"]
pinned = true
expected_memory = "7 MB"
[models."{who}/never"]
runtime_model = "x?bind=never"
start_timeout = "300ms"
probe_timeout = "200ms"
[models."{who}/stubborn"]
runtime_model = "x?ignore=term,int"
drain_timeout = "50ms"
stop_timeout = "50ms"
[models."{who}/missing"]
runtime = "missing"
[models."{who}/code"]
runtime_model = "{root}/code"
[models."{who}/hub"]
runtime = "hub"
runtime_model = "org/name"
[models."{who}/pulled"]
runtime = "hub"
runtime_model = "org/name"
[models."{who}/absent"]
runtime = "hub"
runtime_model = "org/absent"
[models."{who}/broken"]
runtime = "hub"
runtime_model = "org/broken"
"""

# Nobody is let in without a token, not even the user of the service.
LOCKED = """
[auth]
local = "token"
"""
CLIENT = """
[clients.{name}]
token_sha256 = "{digest}"
scope = "{scope}"
"""
TLS = """
[tls]
cert = "{root}/secrets/service.pem"
key = "{root}/secrets/service.key"
"""
CLIENT_CA = """
client_ca = "{root}/secrets/callers.pem"
[clients.engine]
san = "spiffe://home/engine"
scope = "use"
"""
# What a token of scope `use` may start is listed.
LOCKED_MODELS = """
[models."{who}/one"]
[models."{who}/two"]
"""
FAR = "0.0.0.0:0"
TOKENS: Mapping[str, str] = {scope: new_token() for scope in ("read", "use", "admin")}
"""A token of each scope, which GUARDED knows."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What worlds are built from. root: a directory for all of them."""

    root: Path
    hub: Hub


def _quick(_: Surroundings) -> str:
    return QUICK


def _tight(surroundings: Surroundings) -> str:
    vast = surroundings.root / "vast"
    vast.mkdir(exist_ok=True)
    for name, content in HUB_FILES.items():
        (vast / name).write_bytes(content)
    # A hole: it takes no room on the disk.
    os.truncate(vast / "model.safetensors", VAST_BYTES)
    return TIGHT + TIGHT_MODELS.format(root=surroundings.root)


def _listed(surroundings: Surroundings) -> str:
    root, hub = surroundings.root, surroundings.hub
    program = root / "vllm-mlx"
    run = f"import runpy\nrunpy.run_path({str(FAKE)!r}, run_name='__main__')\n"
    program.write_text(f"#!{sys.executable}\n{run}")
    program.chmod(0o755)
    code = root / "code"
    code.mkdir()
    (code / "config.json").write_text('{"model_file": "own.py"}')
    (code / "own.py").touch()
    hub.refusals["broken"] = (503, "")
    variables = "".join(
        f"{name} = '{value}'\n" for name, value in hub.environment(root / "hub").items()
    )
    models = "".join(LISTED_MODELS.format(who=one.key, root=root) for one in LANGUAGES)
    return LISTED + LISTED_RUNTIMES.format(root=root) + variables + models


def _locked(_: Surroundings) -> str:
    return QUICK + "".join(LOCKED_MODELS.format(who=one.key) for one in LANGUAGES)


def _open(_: Surroundings) -> str:
    return ""


def _guarded(_: Surroundings) -> str:
    return LOCKED + "".join(starmap(_client, TOKENS.items()))


def _encrypted(surroundings: Surroundings) -> str:
    return _guarded(surroundings) + TLS.format(root=surroundings.root)


def _certified(surroundings: Surroundings) -> str:
    return _encrypted(surroundings) + CLIENT_CA.format(root=surroundings.root)


def _client(scope: str, token: str) -> str:
    """The section of a client that is named after its scope."""
    known_by = digest(token)
    assert known_by is not None
    return CLIENT.format(name=scope, digest=known_by.hex(), scope=scope)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of world.

    config: the pool's; access: who may call, and how; own: each language has one, since it is
    harmed or must be alone; token: the conductor's; sockets: where it listens besides, below the
    directory of all worlds; is_far: other machines reach it, too; members: how many the front of
    such a world has, if it is played through a front.
    """

    name: str
    config: Callable[[Surroundings], str]
    access: Callable[[Surroundings], str] = _open
    own: bool = False
    token: str | None = None
    sockets: tuple[str, ...] = ()
    is_far: bool = False
    members: int = 2


PLAIN = Kind("plain", _quick, sockets=(IN_RUNTIME, IN_STATE))
"""For models of any name; no room is short, and nothing is held against the dead."""
CATALOGUE = Kind("catalogue", _listed)
"""Serves only what it lists."""
GUARDED = Kind("guarded", _locked, _guarded, token=TOKENS["admin"])
"""As PLAIN, but each caller needs a token, and models are listed."""
ENCRYPTED = Kind("encrypted", _locked, _encrypted, token=TOKENS["admin"], is_far=True)
"""As GUARDED, and by TLS, too."""
CERTIFIED = Kind("certified", _locked, _certified, token=TOKENS["admin"], is_far=True)
"""As ENCRYPTED, and by TLS each caller shows a certificate."""
ALONE = Kind("alone", _quick, own=True)
"""As PLAIN, and nobody else is there."""
FRAIL = Kind("frail", _quick, members=1)
"""As PLAIN. Its front has one member, since each counts the crashes that it has seen."""
SMALL = Kind("small", _tight, own=True, members=1)
"""Room for one model, and for one that waits."""
