"""A bill is the same for the same pins, and names exactly what is pinned."""

import json
from typing import Any

import pytest

from tools.pins import Pin
from tools.sbom.form import BillError, check, in_form, text_of


def component(name: str, version: str, description: str = "") -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version}"
    reference = {"purl": purl, "bom-ref": purl}
    return {"name": name, "version": version, "description": description, **reference}


def made(serial: str, *components: dict[str, Any]) -> dict[str, Any]:
    """A bill as a tool makes it, which differs each time by `serial`."""
    tool = {"name": "tool", "version": "1", "hashes": [{"alg": "MD5", "content": serial}]}
    root = {"name": "/its/directory", "bom-ref": "root"}
    metadata = {"timestamp": serial, "tools": {"components": [tool]}, "component": root}
    dependencies = [{"ref": one["bom-ref"]} for one in components]
    return {
        "serialNumber": serial,
        "metadata": metadata,
        "components": list(components),
        "dependencies": dependencies,
    }


def test_bills_of_the_same_pins_are_the_same_bytes() -> None:
    one, other = component("a", "1"), component("b", "2")
    texts = {
        text_of(in_form(made("first", one, other), "ours", "1.0")),
        text_of(in_form(made("second", other, one), "ours", "1.0")),
    }
    (text,) = texts
    bill = json.loads(text)
    assert bill["metadata"]["component"] == {"name": "ours", "version": "1.0", "bom-ref": "root"}
    assert bill["metadata"]["tools"] == {"components": [{"name": "tool", "version": "1"}]}


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("requirements line 3: a==1     --hash=sha256:0     --hash=sha256:1", "a==1"),
        ("requirements line 9: a==1 ; python_version < '3.12'", "a==1 ; python_version < '3.12'"),
        ("What it does", "What it does"),
    ],
)
def test_of_a_line_of_a_list_the_requirement_is_left(line: str, left: str) -> None:
    bill = in_form(made("", component("a", "1", description=line)), "ours", "1.0")
    assert bill["components"][0]["description"] == left


@pytest.mark.parametrize(
    ("pinned", "trouble"),
    [
        ([Pin("a", "1"), Pin("b", "2")], "b 2 is pinned and not named"),
        ([Pin("a", "2")], "a 1 is named and not pinned"),
        ([], "a 1 is named and not pinned"),
    ],
)
def test_a_bill_that_names_something_else_is_an_error(pinned: list[Pin], trouble: str) -> None:
    with pytest.raises(BillError, match=trouble):
        check(made("", component("a", "1")), pinned)


def test_an_empty_bill_is_an_error() -> None:
    with pytest.raises(BillError, match="names nothing"):
        check(made(""), [])
