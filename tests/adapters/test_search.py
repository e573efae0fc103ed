import os
import signal
import sys
from pathlib import Path

import pytest

from pool_service.adapters.process.exits import exit_watch, wait_for_exit
from pool_service.adapters.process.identity import identity_of
from pool_service.adapters.runtime import search
from pool_service.adapters.runtime.search import (
    Program,
    ProgramCache,
    Versions,
    check_version,
    interpreter_of,
    is_launcher_script,
    search_configured,
    search_default,
    versions_of,
)
from pool_service.core.errors import RuntimeUnavailable


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def put_metadata(library: Path, name: str, version: str) -> Path:
    """Put the metadata of a package where an interpreter finds it, and return their directory."""
    info = library / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return info


def python_with(directory: Path, version: str) -> Path:
    """A vllm-mlx script whose interpreter finds that version in its metadata."""
    put_metadata(directory / "lib", "vllm-mlx", version)
    python = script(
        directory / "python",
        f"#!/bin/sh\necho asked >> {directory}/asked\n"
        f'PYTHONPATH={directory}/lib exec {sys.executable} -S "$@"\n',
    )
    return script(directory / "vllm-mlx", f"#!{python}\nraise SystemExit('not to be run')\n")


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any vllm-mlx."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv/bin/python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    return tmp_path


def test_beside_the_interpreter_comes_first_then_path_then_the_provisioned(nowhere: Path) -> None:
    provisioned = nowhere / "data/vllm-mlx"
    assert search_default(lambda: None) is None
    assert search_default(lambda: provisioned) == Program(
        provisioned, "installed by pool-service runtime install"
    )
    on_path = script(nowhere / "path/vllm-mlx", "")
    assert search_default(lambda: provisioned) == Program(on_path, "on PATH")
    beside = script(nowhere / "venv/bin/vllm-mlx", "")
    assert search_default(lambda: provisioned) == Program(beside, "beside the running interpreter")


def test_the_interpreters_link_is_not_followed(nowhere: Path) -> None:
    elsewhere = script(nowhere / "elsewhere/python", "")
    script(nowhere / "elsewhere/vllm-mlx", "")
    beside = script(nowhere / "venv/bin/vllm-mlx", "")
    (nowhere / "venv/bin/python").symlink_to(elsewhere)
    found = search_default(lambda: None)
    assert found is not None
    assert found.path == beside


def test_a_program_that_is_not_executable_is_passed_over(nowhere: Path) -> None:
    script(nowhere / "venv/bin/vllm-mlx", "").chmod(0o644)
    assert search_default(lambda: None) is None


def test_a_configured_name_is_looked_up_on_path(nowhere: Path) -> None:
    program = script(nowhere / "path/my-server", "")
    assert search_configured("my-server").path == program


def test_a_configured_relative_path_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = script(tmp_path / "bin/my-server", "")
    monkeypatch.chdir(tmp_path)
    assert search_configured("bin/my-server").path == program


def test_a_configured_program_that_cannot_run_is_told_apart(tmp_path: Path) -> None:
    script(tmp_path / "plain", "").chmod(0o644)
    for name, why in (
        ("no-such-program-anywhere", "not found on PATH"),
        (f"{tmp_path}/none", "does not exist"),
        (f"{tmp_path}", "is no file"),
        (f"{tmp_path}/plain", "not executable"),
        ("~no-such-user/x", "cannot be found"),
    ):
        with pytest.raises(RuntimeUnavailable, match=why):
            search_configured(name)


@pytest.mark.parametrize(
    ("head", "interpreter"),
    [
        ("#!/x/bin/python3.11\n", "/x/bin/python3.11"),
        ("#! /x/bin/python -s\n", "/x/bin/python"),
        ("#!/bin/sh\n'''exec' \"/a b/python3\" \"$0\" \"$@\"\n' '''\n", "/a b/python3"),
        ("#!/bin/sh\n'''exec' /long/python \"$0\" \"$@\"\n", "/long/python"),
        ("#!/bin/sh\nexec something\n", None),
        ("#!/bin/sh\n'''exec'\n", None),
        ("#!/bin/sh\nexec\n", None),
        ("#!/bin/sh\n'unbalanced\n", None),
        ("#!/bin/bash\n", None),
        ("#!\n", None),
        ("\x7fELF", None),
        ("", None),
    ],
)
def test_the_interpreter_is_read_from_the_script(
    tmp_path: Path, head: str, interpreter: str | None
) -> None:
    assert interpreter_of(script(tmp_path / "vllm-mlx", head)) == interpreter


PIP = """#!/x/python
# -*- coding: utf-8 -*-
import re
import sys
from vllm_mlx.cli import main
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit(main())
"""
UV = """#!/x/python
# -*- coding: utf-8 -*-
import sys
from vllm_mlx.cli import main
if __name__ == "__main__":
    if sys.argv[0].endswith("-script.pyw"):
        sys.argv[0] = sys.argv[0][:-11]
    elif sys.argv[0].endswith(".exe"):
        sys.argv[0] = sys.argv[0][:-4]
    sys.exit(main())
"""
LONG = PIP.replace("#!/x/python", "#!/bin/sh\n'''exec' \"/a b/python\" \"$0\" \"$@\"\n' '''")
BY_ENV = UV.replace("/x/python", "/usr/bin/env python3")


@pytest.mark.parametrize("text", [PIP, UV, LONG, BY_ENV])
def test_a_script_as_installers_write_it_is_known(tmp_path: Path, text: str) -> None:
    assert is_launcher_script(script(tmp_path / "vllm-mlx", text))


@pytest.mark.parametrize(
    "text",
    [
        PIP.replace("/x/python", "/x/python -O"),
        BY_ENV.replace("python3", "-S python3 -I"),
        PIP.replace("import re\n", "import re, os\nos.environ['A'] = 'b'\n"),
        PIP.replace("if __name__", "sys.path.insert(0, '/own')\nif __name__"),
        PIP.replace("    sys.exit", "    print('own')\n    sys.exit"),
        PIP.replace("vllm_mlx.cli", "own"),
        UV + "# " + "x" * search._MAX_SCRIPT_BYTES + "\n",
        '#!/bin/sh\nexec /x/vllm-mlx "$@"\n',
        "",
    ],
)
def test_a_script_that_does_more_is_run_as_it_is(tmp_path: Path, text: str) -> None:
    assert not is_launcher_script(script(tmp_path / "vllm-mlx", text))


def test_an_interpreter_by_env_is_found_on_path(nowhere: Path) -> None:
    python = script(nowhere / "path/python3", "")
    assert interpreter_of(script(nowhere / "x", "#!/usr/bin/env python3\n")) == str(python)


async def test_the_version_is_in_the_metadata_of_the_scripts_interpreter(tmp_path: Path) -> None:
    assert (await versions_of(python_with(tmp_path, "0.2.9"))).own == "0.2.9"


async def test_the_version_is_asked_for_again_only_when_the_program_changes(
    tmp_path: Path,
) -> None:
    program, versions = python_with(tmp_path, "0.6.0"), ProgramCache(versions_of)
    for _ in range(3):
        assert (await versions.of(program)).own == "0.6.0"
    assert (tmp_path / "asked").read_text() == "asked\n"
    (tmp_path / "lib/vllm_mlx-0.6.0.dist-info").rename(tmp_path / "lib/gone")
    python_with(tmp_path, "0.7.0")
    program.write_text(program.read_text() + "#\n")
    assert (await versions.of(program)).own == "0.7.0"


async def test_an_upgrade_of_a_package_with_which_it_computes_is_noticed(tmp_path: Path) -> None:
    """Such as `pip install --upgrade mlx`, which leaves the script of vllm-mlx as it is."""
    program, library = python_with(tmp_path, "0.6.0"), tmp_path / "lib"
    old = put_metadata(library, "mlx", "0.31.0")
    versions = ProgramCache(versions_of, lambda found: found.places)
    for _ in range(2):
        assert await versions.of(program) == Versions("0.6.0", ("0.31.0", "", ""), (library,))
    assert (tmp_path / "asked").read_text() == "asked\n"
    old.rename(tmp_path / "removed")
    put_metadata(library, "mlx", "0.32.4")
    assert (await versions.of(program)).computing == ("0.32.4", "", "")


async def test_a_program_that_is_no_python_script_is_asked_itself(tmp_path: Path) -> None:
    program = script(tmp_path / "vllm-mlx", "#!/bin/sh\necho vllm-mlx 0.9.1\n")
    assert (await versions_of(program)).own == "0.9.1"


@pytest.mark.parametrize("body", ["exit 2", "echo no version here", "kill $$"])
async def test_a_version_that_cannot_be_found_out_is_told_apart(tmp_path: Path, body: str) -> None:
    program = script(tmp_path / "vllm-mlx", f"#!/bin/sh\n{body}\n")
    version = (await versions_of(program)).own
    assert version is None
    with pytest.raises(RuntimeUnavailable, match="could not be found out"):
        check_version(Program(program, "on PATH"), version)


async def test_a_program_that_hangs_is_ended_with_all_of_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_QUERY_TIMEOUT_S", 0.2)
    program = script(
        tmp_path / "vllm-mlx", f"#!/bin/sh\nsleep 1000 &\necho $! > {tmp_path}/pid\nwait\n"
    )
    assert (await versions_of(program)).own is None
    child = identity_of(int((tmp_path / "pid").read_text()))
    if child:
        await wait_for_exit(exit_watch(), child)


async def test_a_version_is_told_though_a_descendant_stays_with_its_output(tmp_path: Path) -> None:
    program = script(
        tmp_path / "vllm-mlx", f"#!/bin/sh\nsleep 1000 &\necho $! > {tmp_path}/pid\necho 0.9.1\n"
    )
    assert (await versions_of(program)).own == "0.9.1"
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("version", ["0.2.9", "0.2", "0.0.99", "0"])
def test_a_version_below_the_minimum_is_refused_with_its_place_and_what_to_do(
    version: str,
) -> None:
    with pytest.raises(RuntimeUnavailable) as caught:
        check_version(Program(Path("/x/vllm-mlx"), "on PATH"), version)
    message = str(caught.value)
    for part in (version, "/x/vllm-mlx", "0.3.0 or later", "pool-service runtime install"):
        assert part in message


@pytest.mark.parametrize("version", ["0.3.0", "0.3", "0.3.0rc1", "0.10.1", "1.0.dev3+local", "1"])
def test_a_version_from_the_minimum_on_is_taken(version: str) -> None:
    check_version(Program(Path("/x/vllm-mlx"), "on PATH"), version)


def test_of_arguments_the_existing_files_count_that_they_name_by_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file"
    file.touch()
    arguments = [str(file), "file", "/no/such/file", f"--a={file}", "--a=file", str(tmp_path), "-b"]
    assert search._named_files(arguments) == [str(file), str(file)]
