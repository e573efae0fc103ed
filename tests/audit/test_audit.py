"""What `make audit` says of each language, and which exit code it comes to."""

from datetime import date
from pathlib import Path

import pytest

from tools import pins
from tools.audit import __main__ as audit
from tools.audit import python
from tools.audit.outcome import Accepted, Checked, Finding, NotChecked, read_accepted
from tools.pins import ROOT, Pin
from tools.programs import run

TODAY = date(2026, 11, 28)
BAD = Finding("a/list.txt", "bad", "1.0", ("GHSA-1", "CVE-1"), "It is bad")


def clean() -> Checked:
    return Checked(3, ())


def bad() -> Checked:
    return Checked(3, (BAD,))


def unchecked() -> Checked:
    raise NotChecked("the database\ncannot be reached")


def test_no_finding_is_said_with_the_number_of_packages(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert audit.audit({"go": clean}, [], TODAY) == 0
    assert capsys.readouterr().out == "audit: go: no known vulnerabilities in 3 packages\n"


def test_a_finding_is_told_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.audit({"go": bad, "npm": clean}, [], TODAY) == audit.FOUND
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "audit: go: 1 known vulnerability in 3 packages"
    assert second == "    bad 1.0 (a/list.txt): GHSA-1, CVE-1: It is bad"
    assert third.startswith("audit: npm: no known")


def test_what_was_not_checked_is_told_and_fails_otherwise_than_a_finding(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert audit.audit({"go": unchecked, "npm": clean}, [], TODAY) == audit.NOT_CHECKED
    out = capsys.readouterr().out
    assert "audit: go: NOT CHECKED: the database\n    cannot be reached\n" in out
    assert "audit: not checked, so nothing is known about it: go.\n" in out
    assert "audit: go: no known" not in out


def test_a_report_that_cannot_be_read_is_no_check(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> Checked:
        raise KeyError("vulns")

    assert audit.audit({"go": broken}, [], TODAY) == audit.NOT_CHECKED
    assert "NOT CHECKED: a report could not be read: KeyError('vulns')" in capsys.readouterr().out


def test_a_finding_is_not_hidden_by_what_was_not_checked() -> None:
    assert audit.audit({"go": unchecked, "npm": bad}, [], TODAY) == audit.FOUND


@pytest.mark.parametrize(
    ("advisory", "until", "code"),
    [
        ("GHSA-1", date(2026, 11, 29), 0),
        ("CVE-1", date(2026, 11, 29), 0),
        ("GHSA-1", TODAY, audit.FOUND),
        ("GHSA-2", date(2026, 11, 29), audit.FOUND),
    ],
)
def test_an_accepted_finding_does_not_count_until_its_day(
    advisory: str, until: date, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.audit({"go": bad}, [Accepted(advisory, "why", until)], TODAY) == code
    assert ("; 1 accepted" in capsys.readouterr().out) == (code == 0)


@pytest.mark.parametrize(
    "entry",
    ['advisory = "A"\nwhy = ""\nuntil = 2027-01-01', 'advisory = "A"\nwhy = "w"\nuntil = "later"'],
    ids=["without a reason", "without a day"],
)
def test_what_is_accepted_says_why_and_until_when(entry: str, tmp_path: Path) -> None:
    (tmp_path / "accepted.toml").write_text(f"[[accepted]]\n{entry}\n")
    with pytest.raises(ValueError, match="say why, and until which day"):
        read_accepted(tmp_path / "accepted.toml")


def test_the_accepted_findings_of_this_repository_can_be_read() -> None:
    read_accepted(ROOT / "tools/audit/accepted.toml")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["sh", "-c", "echo why >&2; exit 3"], "sh failed (exit code 3):\n    why"),
        (["/none/such"], "/none/such: No such file or directory"),
    ],
    ids=["fails", "is not there"],
)
def test_a_program_that_fails_or_is_not_there_is_no_check(
    command: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def check() -> Checked:
        run(*command)
        return clean()

    assert audit.audit({"go": check}, [], TODAY) == audit.NOT_CHECKED
    assert f"NOT CHECKED: {told}\n" in capsys.readouterr().out


def test_pip_audit_gets_one_version_of_a_package_at_a_time() -> None:
    wanted = [Pin("a", "1"), Pin("b", "1"), Pin("a", "2")]
    assert python.one_version_each(wanted) == [[Pin("a", "1"), Pin("b", "1")], [Pin("a", "2")]]


def test_a_package_that_was_left_out_is_no_finding_and_no_check() -> None:
    with pytest.raises(NotChecked, match="not on it"):
        python.read('{"dependencies": [{"name": "a", "skip_reason": "not on it"}]}', [], "x")
    with pytest.raises(NotChecked, match="did not look up b"):
        python.read('{"dependencies": []}', [Pin("b", "1")], "x")


def test_every_list_is_checked_what_users_get_first() -> None:
    lists = [path.name for path in python.lists()]
    assert lists[:2] == ["service.txt", "runtime_requirements.txt"]
    assert {"build.txt", "dev.txt", "docs.txt", "supply.txt"} <= set(lists)
    assert all(pins.of_list(path) for path in python.lists())
    assert len(pins.of_list(pins.RUNTIME)) > 80
