"""Every link between documents leads somewhere, at a forge as well as on the site."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("*.md", ".github/*.md", "*/*.md", "clients/*/*.md", "docs/**/*.md", "tests/*/*.md")
FENCED = re.compile(r"^( *)```.*?^ *```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s#]*)(#[^)\s]*)?\)")
NAMED = re.compile(r"`([\w./-]+\.py)`")
CODE = ("pool_service", "tests", "tools", "clients/python")


def documents() -> list[Path]:
    return sorted(path for place in PLACES for path in ROOT.glob(place))


def anchors(document: Path) -> set[str]:
    """What a forge calls the headings: lower case, without marks, hyphens for spaces."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", document.read_text()), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def broken(document: Path) -> Iterator[str]:
    for target, anchor in LINK.findall(FENCED.sub("", document.read_text())):
        if "://" in target or target.startswith("mailto:"):
            continue
        path = (document.parent / target).resolve() if target else document
        named = anchor.removeprefix("#")
        if not path.exists() or (named and path.suffix == ".md" and named not in anchors(path)):
            yield f"{document.relative_to(ROOT)}: {target}{anchor}"


def test_every_link_leads_somewhere() -> None:
    assert [link for document in documents() for link in broken(document)] == []


def test_every_python_file_that_a_document_names_exists() -> None:
    existing = tuple(str(path) for root in CODE for path in (ROOT / root).rglob("*.py"))
    missing = [
        f"{document.relative_to(ROOT)}: {name}"
        for document in documents()
        for name in NAMED.findall(FENCED.sub("", document.read_text()))
        if not any(path.endswith(f"/{name}") for path in existing)
    ]
    assert missing == []


def test_every_page_is_in_the_table_of_contents() -> None:
    contents = ROOT / "docs/README.md"
    named = {
        (contents.parent / target).resolve() for target, _ in LINK.findall(contents.read_text())
    }
    pages = {path for path in documents() if path.is_relative_to(ROOT / "docs")} - {contents}
    decisions = {path for path in pages if path.parent.name == "decisions"}
    assert pages - decisions - named == set()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_a_picture_needs_nothing_from_the_network() -> None:
    for picture in sorted((ROOT / "docs/pictures").glob("*.svg")):
        text = picture.read_text()
        assert ET.fromstring(text).tag.endswith("svg")
        addresses = set(re.findall(r"https?://[^/\"'\s<]+", text)) - {"http://www.w3.org"}
        assert {name for name in addresses if "//127.0.0.1" not in name} == set(), picture.name
