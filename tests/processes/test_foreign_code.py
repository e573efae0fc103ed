"""The process that loads a model runs no code but the runtime's, whatever asks for it."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pool_service.adapters.process.launch import SERVER_CHILD, command_of
from pool_service.core.types import LaunchPlan

pytestmark = pytest.mark.process

LOADED = "import pathlib; pathlib.Path('ran').touch()"


class Loader:
    """A vllm-mlx that loads what is in `model` by some lines of Python."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.model = root / "model"
        self.model.mkdir()
        (self.model / "m.py").write_text(LOADED)
        (root / "work").mkdir()
        (root / "bin").mkdir()

    def run(self, lines: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        program = self.root / "bin" / "vllm-mlx"
        program.write_text(f"#!{sys.executable}\n{textwrap.dedent(lines)}")
        argv = (str(program), "serve", str(self.model), *arguments)
        plan = LaunchPlan(argv, (), None, "/health", "m", "nonce", "vllm-mlx")
        work = self.root / "work"
        command = command_of(plan, work)
        assert command == (sys.executable, str(SERVER_CHILD), *argv)
        return subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)

    @property
    def ran(self) -> bool:
        return (self.root / "work" / "ran").exists()


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


BY_LOCATION = """
    import importlib.util, sys
    spec = importlib.util.spec_from_file_location("custom", {path})
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
"""
DOORS = {
    "a module of the model": BY_LOCATION.format(path="sys.argv[2] + '/m.py'"),
    "by a detour": BY_LOCATION.format(path="sys.argv[2] + '/../model/m.py'"),
    "by a path of imports": """
        import sys
        sys.path.append(sys.argv[2])
        import m
    """,
    "a script": """
        import runpy, sys
        runpy.run_path(sys.argv[2] + "/m.py")
    """,
    "text that says where it is from": """
        import sys
        path = sys.argv[2] + "/m.py"
        exec(compile(open(path).read(), path, "exec"))
    """,
    "a pickle": """
        import pickle
        pickle.loads(b"cos\\nsystem\\n(S'touch ran'\\ntR.")
    """,
    "a library": """
        import importlib.machinery, importlib.util, sys
        loader = importlib.machinery.ExtensionFileLoader("m", sys.argv[2] + "/m.so")
        importlib.util.module_from_spec(importlib.util.spec_from_loader("m", loader))
    """,
}


@pytest.mark.parametrize("door", DOORS)
def test_no_door_lets_it_in(loader: Loader, door: str) -> None:
    ended = loader.run(DOORS[door])
    assert not loader.ran
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("CodeNotTrustedError: ")
    assert "trust_remote_code" in last


def test_compiled_code_that_says_it_is_the_runtimes_is_not_read(loader: Loader) -> None:
    source = f"""
        import importlib.machinery, os
        code = compile({LOADED!r}, os.__file__, "exec")
        raw = importlib._bootstrap_external._code_to_timestamp_pyc(code)
        open({str(loader.model / "m.pyc")!r}, "wb").write(raw)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(source)], check=True)
    ended = loader.run(BY_LOCATION.format(path="sys.argv[2] + '/m.pyc'"))
    assert not loader.ran
    assert "m.pyc' is no code of the runtime" in ended.stderr


def test_what_is_trusted_runs(loader: Loader) -> None:
    ended = loader.run(DOORS["a module of the model"], "--trust-remote-code")
    assert ended.returncode == 0, ended.stderr
    assert loader.ran


def test_what_libraries_make_in_memory_runs(loader: Loader) -> None:
    ended = loader.run("""
        import collections, dataclasses, pickle, email.mime.multipart, numpy, jinja2
        collections.namedtuple("A", "b")(1)
        dataclasses.make_dataclass("A", ["b"])
        exec("1 + 1")
        assert jinja2.Template("{{ 1 + 1 }}").render() == "2"
        array = pickle.loads(pickle.dumps({"a": numpy.zeros(2), "b": numpy.float32(1)}))
        assert not array["a"].any()
    """)
    assert ended.returncode == 0, ended.stderr


def test_the_program_cannot_notice_that_it_was_not_run_itself(loader: Loader) -> None:
    ended = loader.run("""
        import os, sys
        assert __name__ == "__main__", __name__
        assert sys.argv[0] == __file__, sys.argv
        assert sys.path[0] == os.path.dirname(__file__), sys.path
        sys.exit(7)
    """)
    assert ended.returncode == 7, ended.stderr


def test_a_wrapper_in_another_language_is_run_as_it_is(tmp_path: Path) -> None:
    program = tmp_path / "vllm-mlx"
    program.write_text("#!/bin/sh\nexec true\n")
    argv = (str(program), "serve")
    assert command_of(LaunchPlan(argv, (), None, "/", "m", "n", "vllm-mlx"), tmp_path) == argv
    other = LaunchPlan((sys.executable, "x"), (), None, "/", "m", "n", "plain")
    assert command_of(other, tmp_path) == other.argv
