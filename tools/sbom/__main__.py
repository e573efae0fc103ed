"""Writes bills of materials of what is shipped, in CycloneDX's JSON.

    python -m tools.sbom DIRECTORY

One for the service, with and without its extra, one for the runtime that it installs, and one for
each client. A bill that would not name exactly what is pinned, or breaks CycloneDX's schema, is an
error. Exit codes: 0 all are written; 1 why not; 2 the command line is not valid.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tools.pins import LISTS, ROOT, RUNTIME
from tools.programs import ProgramFailed, run
from tools.sbom import go, npm, python, rust
from tools.sbom.form import Bill, BillError, text_of
from tools.set_version import version

SERVICE, CLIENT = "pool-service", "pool-service-client"


def bills(own: str) -> Mapping[str, Callable[[], Bill]]:
    """Return what makes each bill, by its file; own: the version of this repository's packages."""
    beside = [CLIENT]
    return {
        SERVICE: lambda: python.bill(LISTS / "service.txt", SERVICE, "application", own, beside),
        f"{SERVICE}-otel": lambda: python.bill(
            LISTS / "otel.txt", f"{SERVICE}[otel]", "application", own, beside
        ),
        f"{SERVICE}-fleet": lambda: python.bill(
            LISTS / "fleet.txt", f"{SERVICE}[fleet]", "application", own, beside
        ),
        f"{SERVICE}-kubernetes": lambda: python.bill(
            LISTS / "kubernetes.txt", f"{SERVICE}[kubernetes]", "application", own, beside
        ),
        f"{SERVICE}-gateway": lambda: python.bill(
            LISTS / "gateway.txt", f"{SERVICE}[gateway]", "application", own, beside
        ),
        f"{SERVICE}-runtime": lambda: python.bill(
            RUNTIME, f"{SERVICE}-runtime", "application", own
        ),
        f"{CLIENT}-python": lambda: python.bill(LISTS / "client.txt", CLIENT, "library", own),
        f"{CLIENT}-go": lambda: go.bill(own),
        f"{CLIENT}-rust": lambda: rust.bill(CLIENT, own),
        f"{CLIENT}-typescript": lambda: npm.bill(CLIENT, own),
    }


def main(arguments: Sequence[str]) -> int:
    """Write all bills into the directory of the command line."""
    if len(arguments) != 1:
        print((__doc__ or "").strip(), file=sys.stderr)
        return 2
    directory = Path(arguments[0]).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    name = ""
    try:
        for name, make in bills(version()).items():
            path = directory / f"{name}.cdx.json"
            bill = make()
            path.write_text(text_of(bill))
            written.append(path)
            print(f"sbom: {path.name}: {len(bill['components'])} packages", flush=True)
        name = "the schema"
        validator = ROOT / "tools/sbom/validate.py"
        run(python.VENV / "bin/python", validator, *written)
    except (BillError, ProgramFailed) as trouble:
        print(f"sbom: {name}: {trouble}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
