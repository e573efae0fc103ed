"""Generate the Python stubs of proto/, or with --check name those that are not as generated.

The stubs know no comments. So that reflection shows them, the service has the proto files as a
descriptor set too. It is not tracked: it is written along with the stubs, and alone by --comments,
which `make setup` runs.

The client's are the service's with imports of its own, so that it needs nothing of the server.
Both register one descriptor under one file name, which is why one process can load both.

Of etcd's API the fleet has messages only, beside the proto file that names them.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
SERVICE = ROOT / "pool_service/v1"
CLIENT = ROOT / "clients/python/pool_service_client/v1"
DESCRIBED = SERVICE / "described.binpb"
ETCD = ROOT / "pool_service/fleet/engines/etcd"
INIT = '"""Generated from proto/pool_service/v1 by `make proto`."""\n'
PLUGINS = tuple(
    f"--plugin={name}={Path(sys.executable).parent / name}"
    for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
)
# What names a Python module, beside the names on the wire, which the two packages share.
MODULE_REFERENCES = ("from pool_service.v1 import", "'pool_service.v1.pool_service_pb2'")


class GenerateError(Exception):
    """What could not be generated, and why."""


def generate(target: Path) -> None:
    """Write the stubs as protoc does, each under `target` in the directory of its package."""
    kinds = ("python", "grpc_python", "mypy", "mypy_grpc")
    protoc(PROTO, sources(), *PLUGINS, *(f"--{kind}_out={target}" for kind in kinds))
    etcd = str((ETCD / "etcd.proto").relative_to(ROOT))
    protoc(ROOT, [etcd], PLUGINS[0], f"--python_out={target}", f"--mypy_out={target}")


def describe(target: Path = DESCRIBED) -> None:
    """Write the descriptor set with the comments."""
    new = target.with_suffix(".new")
    protoc(PROTO, sources(), f"--descriptor_set_out={new}", "--include_source_info")
    new.replace(target)


def sources() -> list[str]:
    """Return the files of proto/, as they import each other."""
    return sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("pool_service/**/*.proto"))


def protoc(root: Path, files: list[str], *options: str) -> None:
    """Run protoc on files under `root`. Raises GenerateError if it refuses them."""
    command = (sys.executable, "-m", "grpc_tools.protoc", "-I", str(root), *options, *files)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise GenerateError(f"protoc refused {', '.join(files)}:\n{done.stderr.strip()}")


def for_client(text: str) -> str:
    for reference in MODULE_REFERENCES:
        text = text.replace(
            reference, reference.replace("pool_service.", "pool_service_client.", 1)
        )
    return text


def wanted() -> dict[Path, bytes]:
    """Every generated file of this repository, with the content that it should have."""
    files = {SERVICE / "__init__.py": INIT.encode(), CLIENT / "__init__.py": INIT.encode()}
    with tempfile.TemporaryDirectory() as directory:
        generate(Path(directory))
        for path in sorted(Path(directory).glob("pool_service/v1/*_pb2*.py*")):
            text = path.read_text()
            files[SERVICE / path.name] = text.encode()
            files[CLIENT / path.name] = for_client(text).encode()
        for path in (Path(directory) / ETCD.relative_to(ROOT)).glob("*_pb2.py*"):
            files[ETCD / path.name] = path.read_bytes()
    return files


def stale(files: dict[Path, bytes]) -> Iterator[Path]:
    """The files that are missing, other than they should be, or of a proto that is gone."""
    for path, content in files.items():
        if not path.is_file() or path.read_bytes() != content:
            yield path
    for package in (SERVICE, CLIENT, ETCD):
        yield from (path for path in package.glob("*_pb2*.py*") if path not in files)


def write(files: dict[Path, bytes]) -> None:
    for path in list(stale(files)):
        if path not in files:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[path])
        print(f"wrote {path.relative_to(ROOT)}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate what Python needs of proto/.")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--check", action="store_true", help="only say which files are stale")
    only.add_argument("--comments", action="store_true", help="only write what reflection tells")
    options = parser.parse_args()
    try:
        if not options.check:
            describe()
        if options.comments:
            return 0
        files = wanted()
    except GenerateError as error:
        print(error, file=sys.stderr)
        return 1
    if not options.check:
        write(files)
        return 0
    names = [str(path.relative_to(ROOT)) for path in stale(files)]
    if names:
        print(f"not what proto/ generates, run `make proto`: {', '.join(names)}", file=sys.stderr)
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
