"""Checks the crates that the Rust client is built of against RustSec's database."""

import json
import tempfile
from pathlib import Path

from tools import pins
from tools.audit.outcome import Checked, Finding, NotChecked
from tools.pins import ROOT, Pin
from tools.programs import run, said

DENY = ROOT / ".cache/tools/bin/cargo-deny"
CLIENT = ROOT / "clients/rust"
KNOWN_BAD = Pin("smallvec", "1.6.0")
"""Has had a known vulnerability since 2021: a database that tells of none knows nothing."""


def check(config: Path = CLIENT / "deny.toml") -> Checked:
    """Check the newest crates that Cargo.toml allows. Raises NotChecked."""
    run("sh", ROOT / "tools/cargo_tools.sh", "cargo-deny")
    if not ask_about(KNOWN_BAD, config):
        raise NotChecked(f"the database knows nothing about {' '.join(KNOWN_BAD)}")
    findings = ask(CLIENT, config, "clients/rust/Cargo.lock")
    return Checked(len(pins.of_cargo_lock(CLIENT / "Cargo.lock")), tuple(findings))


def ask_about(pin: Pin, config: Path) -> list[Finding]:
    """Return what the database knows about one crate."""
    with tempfile.TemporaryDirectory() as name:
        crate = Path(name)
        (crate / "src").mkdir()
        (crate / "src/lib.rs").touch()
        (crate / "Cargo.toml").write_text(
            '[package]\nname = "a-try"\nversion = "0.0.0"\nedition = "2021"\n'
            f'[dependencies]\n{pin.name} = "={pin.version}"\n'
        )
        return ask(crate, config, "a try")


def ask(crate: Path, config: Path, where: str) -> list[Finding]:
    """Return what the database knows about the crates of a workspace."""
    place = ("--manifest-path", crate / "Cargo.toml", "--config", config)
    command = (DENY, *place, "--format", "json", "check", "advisories")
    # It fetches the database first, and exits with 1 for findings and for failures alike.
    done = run(*command, codes=(0, 1))
    messages = [json.loads(line) for line in done.stderr.splitlines()]
    # The summary comes last: without one the check did not come to its end.
    if not any(one["type"] == "summary" for one in messages):
        raise NotChecked(said(command, done))
    errors = [
        one["fields"]
        for one in messages
        if one["type"] == "diagnostic" and one["fields"]["severity"] == "error"
    ]
    findings = [finding(error, where) for error in errors]
    if done.returncode and not findings:
        raise NotChecked(said(command, done))
    return findings


def finding(error: dict[str, object], where: str) -> Finding:
    """Return a finding of cargo-deny's diagnostic. A yanked crate has no advisory, but a code."""
    match error:
        case {
            "advisory": {"id": str(name), "aliases": list(aliases)},
            "graphs": [{"Krate": {"name": str(crate), "version": str(version)}}, *_],
            "message": str(title),
        }:
            return Finding(where, crate, version, (name, *aliases), title)
        case {
            "code": str(code),
            "graphs": [{"Krate": {"name": str(crate), "version": str(version)}}, *_],
            "message": str(title),
        }:
            return Finding(where, crate, version, (code,), title)
        case _:
            raise NotChecked(f"cargo-deny: {error.get('message')}")
