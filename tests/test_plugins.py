"""Claims about the plugins that let tests run as on macOS: only who asks for one has it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = ("tests.as_on_macos", "tests.realfork")
STATE = "(dict(os.environ), subprocess._USE_VFORK, subprocess._USE_POSIX_SPAWN)"


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_that_is_merely_imported_changes_nothing(plugin: str) -> None:
    program = f"import os, subprocess; before = {STATE}\nimport {plugin}\nprint({STATE} == before)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "True\n", done.stderr


def test_services_of_other_tests_run_as_on_this_system(pytestconfig: pytest.Config) -> None:
    """All tests are collected when this runs, those of the plugins as well."""
    asked_for = [name for name in PLUGINS if pytestconfig.pluginmanager.has_plugin(name)]
    if not asked_for:
        assert "FAKE_LIBPROC" not in os.environ
        assert str(ROOT / "tests") not in os.environ.get("PYTHONPATH", "")
