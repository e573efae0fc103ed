"""Reads which versions of which packages are pinned, in the lists of each language."""

import json
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
RUNTIME = ROOT / "pool_service/runtime_requirements.txt"
LISTS = ROOT / "packaging/requirements"


class Pin(NamedTuple):
    """One version of a package, as its registry names it."""

    name: str
    version: str


def of_list(path: Path) -> list[Pin]:
    """Return what a list of `make lock` pins, for whatever platform."""
    pattern = re.compile(r"(?m)^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)")
    return [Pin(*found) for found in pattern.findall(path.read_text())]


def of_npm_lock(path: Path, *, only_shipped: bool = False) -> list[Pin]:
    """Return what a package-lock.json pins; only_shipped: without what only development needs."""
    packages = json.loads(path.read_text())["packages"]
    return [
        Pin(place.rpartition("node_modules/")[2], package["version"])
        for place, package in packages.items()
        if place and not (only_shipped and package.get("dev"))
    ]


def of_cargo_lock(path: Path) -> list[Pin]:
    """Return what a Cargo.lock pins from a registry."""
    packages = tomllib.loads(path.read_text())["package"]
    return [Pin(one["name"], one["version"]) for one in packages if "source" in one]


def of_go_module(path: Path) -> list[Pin]:
    """Return what a go.mod requires, but for what it replaces by a directory."""
    text = path.read_text()
    replaced = set(re.findall(r"(?m)^replace (\S+) => \.", text))
    found = re.findall(r"(?m)^(?:require )?\t?([\w.-]+\.[\w.-]+/\S+) (v\S+)", text)
    return [Pin(*one) for one in found if one[0] not in replaced]
