"""Bills of Python packages for all platforms, by cyclonedx-py from the lists."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools import pins
from tools.pins import ROOT, Pin
from tools.programs import run
from tools.sbom.form import Bill, check, in_form

VENV = ROOT / ".cache/supply-venv"


def bill(path: Path, name: str, kind: str, version: str, ours: Sequence[str] = ()) -> Bill:
    """Return the bill of a list; ours: packages of this repository that are shipped beside."""
    run("sh", ROOT / "tools/list_venv.sh", pins.LISTS / "supply.txt", VENV)
    beside = [Pin(one, version) for one in ours]
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        lines = [path.read_text(), *(f"{one.name}=={one.version}\n" for one in beside)]
        (directory / "list.txt").write_text("".join(lines))
        (directory / "pyproject.toml").write_text(
            f'[project]\nname = "{name}"\nversion = "{version}"\nlicense = "Apache-2.0"\n'
        )
        program = (VENV / "bin/cyclonedx-py", "requirements", "--output-reproducible")
        root = ("--pyproject", "pyproject.toml", "--mc-type", kind)
        made: Bill = json.loads(run(*program, *root, "list.txt", directory=directory).stdout)
    # A list does not say what requires what, which is something else than that nothing does.
    del made["dependencies"]
    for component in made["components"]:
        component["bom-ref"] = component["purl"]
    check(made, [*pins.of_list(path), *beside])
    return in_form(made, name, version)
