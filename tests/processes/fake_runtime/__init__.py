"""A vllm-mlx of which every part is small: what `standby_child.py` needs of the real one.

`install` writes it as packages that the interpreter of these tests finds by PYTHONPATH. What
it does is said by its model:
serve     listens on a free port until it is ended
stuck     never comes to listen
fails     ends with code 1 and a last line before it listens
unloaded  ends with code 3 after a startup that returned, as with uvicorn before 0.35
"""

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent


def install(root: Path) -> tuple[Path, dict[str, str]]:
    """Where its program is, and the environment in which that finds the rest."""
    packages = root / "packages"
    shutil.copytree(HERE / "packages", packages)
    program = root / "vllm-mlx"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom vllm_mlx.cli import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    return program, {"PYTHONPATH": str(packages), "PATH": "/usr/bin:/bin"}
