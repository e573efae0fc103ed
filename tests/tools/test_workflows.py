"""The workflows call what a person calls, from pinned actions, with no right that they need not."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
HOOKS = ROOT / ".pre-commit-config.yaml"
LOCAL_OR_PINNED = re.compile(
    r"\./\.github/workflows/[\w.-]+\.yml|[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+"
)


def by_name(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=by_name)
def test_an_action_is_pinned_to_a_commit_and_says_its_version(workflow: Path) -> None:
    used = re.findall(r"(?m)^ *(?:- )?uses: (.+)$", workflow.read_text())
    assert used
    assert [action for action in used if not LOCAL_OR_PINNED.fullmatch(action)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=by_name)
def test_a_workflow_may_read_the_code_and_a_job_says_what_more_it_may(workflow: Path) -> None:
    text = workflow.read_text()
    assert "\npermissions:\n  contents: read\n" in text
    assert len(re.findall(r"persist-credentials: false", text)) == text.count("actions/checkout@")
    writes = re.findall(r"(?m)^ +([\w-]+): write\b", text)
    wanted = ["id-token"] * 3 + ["contents"] if workflow.name == "release.yml" else []
    assert writes == wanted


def test_a_release_has_the_bills_of_what_was_built() -> None:
    """The crate and its bill take their versions from one lock, which is made before both."""
    release = (ROOT / ".github/workflows/release.yml").read_text()
    steps = ("cargo generate-lockfile", "cargo package", "run: make sbom", "path: dist/\n")
    places = [release.index(step) for step in steps]
    assert places == sorted(places)
    assert re.search(r"gh release create .* dist/python/\* dist/sbom/\*$", release, re.MULTILINE)


@pytest.mark.parametrize("file", [*WORKFLOWS, HOOKS], ids=by_name)
def test_what_they_make_are_targets_of_the_makefile(file: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    made = set(re.findall(r"(?:run:|entry:|^) +make ([a-z][\w-]*)", file.read_text(), re.MULTILINE))
    assert made
    assert made <= targets


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=by_name)
def test_the_files_and_modules_that_they_run_are_there(workflow: Path) -> None:
    text = workflow.read_text()
    scripts = re.findall(r"\b(?:sh|python) (tools/[\w.]+)", text)
    modules = [name.replace(".", "/") + ".py" for name in re.findall(r"-m (tools\.\w+)", text)]
    assert [name for name in (*scripts, *modules) if not (ROOT / name).is_file()] == []
