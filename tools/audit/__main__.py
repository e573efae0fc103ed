"""Looks for known vulnerabilities in what is pinned, in all four languages.

    python -m tools.audit [python] [rust] [go] [npm]

Each database is first asked about a package that is known to be vulnerable: where it does not
tell, or cannot be reached, the language was not checked, which is something else than no finding.
Exit codes: 0 all checked, nothing found; 1 vulnerabilities; 2 the command line is not valid;
3 nothing was found, but not everything was checked.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from tools.audit import go, npm, python, rust
from tools.audit.outcome import Accepted, Checked, Finding, NotChecked, read_accepted
from tools.programs import ProgramFailed

CHECKS: Mapping[str, Callable[[], Checked]] = {
    "python": python.check,
    "rust": rust.check,
    "go": go.check,
    "npm": npm.check,
}
FOUND, NOT_CHECKED = 1, 3


def audit(
    checks: Mapping[str, Callable[[], Checked]], accepted: Sequence[Accepted], today: date
) -> int:
    """Make the checks, say what each comes to, and return the exit code."""
    found, unchecked = 0, []
    for language, check in checks.items():
        try:
            checked = attempt(check)
        except NotChecked as trouble:
            unchecked.append(language)
            print(f"audit: {language}: NOT CHECKED: {indented(str(trouble))}", flush=True)
            continue
        left = [one for one in checked.findings if not is_accepted(one, accepted, today)]
        spared = len(checked.findings) - len(left)
        found += len(left)
        many = "vulnerability" if len(left) == 1 else "vulnerabilities"
        counted = f"{len(left) or 'no'} known {many} in {checked.packages} packages"
        print(f"audit: {language}: {counted}" + f"; {spared} accepted" * bool(spared))
        print("".join(f"    {finding}\n" for finding in left), end="", flush=True)
    if unchecked:
        print(f"audit: not checked, so nothing is known about it: {', '.join(unchecked)}.")
        print("audit: run it again where the databases can be reached.")
    return FOUND if found else NOT_CHECKED if unchecked else 0


def attempt(check: Callable[[], Checked]) -> Checked:
    """Make a check.

    Raises NotChecked also where a program failed, or its report has another form than expected.
    """
    try:
        return check()
    except ProgramFailed as error:
        raise NotChecked(str(error)) from error
    except (LookupError, TypeError, ValueError) as error:
        raise NotChecked(f"a report could not be read: {error!r}") from error


def is_accepted(finding: Finding, accepted: Sequence[Accepted], today: date) -> bool:
    return any(one.covers(finding, today) for one in accepted)


def indented(text: str) -> str:
    return text.replace("\n", "\n    ")


def main(arguments: Sequence[str]) -> int:
    """Check the languages of the command line, by default all."""
    if not CHECKS.keys() >= set(arguments):
        print((__doc__ or "").strip(), file=sys.stderr)
        return 2
    checks = {name: CHECKS[name] for name in arguments or CHECKS}
    accepted = read_accepted(Path(__file__).with_name("accepted.toml"))
    return audit(checks, accepted, datetime.now(UTC).date())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
