"""The one form of all bills: the same bytes for the same pins, wherever they are made."""

import json
import re
from collections.abc import Sequence
from typing import Any

from tools.pins import Pin

Bill = dict[str, Any]
_LINE = re.compile(r"requirements line \d+: (.*?)\s*(?:--hash=.*)?$", re.DOTALL)


class BillError(Exception):
    """Why a bill could not be made, or names something else than what is pinned."""


def in_form(bill: Bill, name: str, version: str) -> Bill:
    """Return a tool's bill under our name and version, without what differs from run to run."""
    bill.pop("serialNumber", None)
    metadata = bill["metadata"]
    metadata.pop("timestamp", None)
    metadata["tools"] = without(metadata["tools"], "hashes", "externalReferences")
    metadata["component"] |= {"name": name, "version": version}
    bill["components"] = sorted(map(described, bill["components"]), key=by_reference)
    if "dependencies" in bill:
        bill["dependencies"] = sorted(bill["dependencies"], key=lambda one: str(one["ref"]))
    return bill


def without(value: object, *keys: str) -> object:
    """Return a JSON value without these keys at any depth."""
    match value:
        case dict():
            return {key: without(one, *keys) for key, one in value.items() if key not in keys}
        case list():
            return [without(one, *keys) for one in value]
        case _:
            return value


def described(component: Bill) -> Bill:
    """Leave of a line of a list the requirement with its marker; its hashes stand elsewhere."""
    if found := _LINE.fullmatch(component.get("description", "")):
        component["description"] = found[1]
    return component


def by_reference(component: Bill) -> tuple[str, str]:
    return str(component["purl"]), str(component["bom-ref"])


def text_of(bill: Bill) -> str:
    return json.dumps(bill, indent=2, sort_keys=True) + "\n"


def check(bill: Bill, pinned: Sequence[Pin]) -> None:
    """Raise BillError unless a bill names exactly what is pinned."""
    named = {Pin(one["name"], one["version"]) for one in bill["components"]}
    wrong = [
        f"{' '.join(pin)} {trouble}"
        for pins, trouble in (
            (set(pinned) - named, "is pinned and not named"),
            (named - set(pinned), "is named and not pinned"),
        )
        for pin in sorted(pins)
    ]
    if wrong or not named:
        raise BillError("\n".join(wrong) or "it names nothing")
