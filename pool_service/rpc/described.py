"""What reflection tells of this service: with its methods by name, and the comments of its files.

gRPC's own reflection finds no method by its name, which ghz and `grpcurl describe` ask for, and
generated code knows no comments, which are the promises of each call.
"""

from pathlib import Path
from typing import Protocol, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import Default, DescriptorPool

from pool_service import v1

DESCRIBED = Path(v1.__file__).with_name("described.binpb")
"""The files of proto/ with their comments, by tools/generate_stubs.py.

It is in what `make dist` builds and in what `make setup` installs, but not in a clone, so a package
that is built of a clone without `make` lacks it.
"""


def described_pool() -> DescriptorPool:
    """What reflection is to tell from."""
    # It asks no more of a pool than this one answers.
    return cast("DescriptorPool", DescribedPool())


class DescribedFile:
    """A file as gRPC's reflection takes it, whose copy has the comments."""

    def __init__(self, file: FileDescriptor, described: FileDescriptorProto) -> None:
        self.name = file.name
        self.dependencies = file.dependencies
        self._file = file
        self._described = described

    def CopyToProto(self, proto: FileDescriptorProto) -> None:  # noqa: N802  # protobuf's name
        # Nothing else of it: without names for JSON, grpcurl writes fields as the proto file does.
        self._file.CopyToProto(proto)
        proto.source_code_info.CopyFrom(self._described.source_code_info)


class ReflectedFile(Protocol):
    """What gRPC's reflection wants of a file; a FileDescriptor, or a described one."""

    @property
    def name(self) -> str: ...

    def CopyToProto(self, proto: FileDescriptorProto) -> None: ...  # noqa: N802


class DescribedPool:
    """The part of protobuf's DescriptorPool that gRPC's reflection uses, over the default one."""

    def __init__(self) -> None:
        self._pool: DescriptorPool = Default()
        content = DESCRIBED.read_bytes() if DESCRIBED.exists() else b""
        described = FileDescriptorSet.FromString(content)
        self._described = {file.name: file for file in described.file}

    def FindFileByName(self, name: str) -> ReflectedFile:  # noqa: N802
        """Raises KeyError, as all of these do."""
        return self._told(self._pool.FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> ReflectedFile:  # noqa: N802
        try:
            file = self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            file = self._file_of_method(symbol)
        return self._told(file)

    def FindMessageTypeByName(self, name: str) -> Descriptor:  # noqa: N802
        return self._pool.FindMessageTypeByName(name)

    def FindExtensionByNumber(self, message: Descriptor, number: int) -> FieldDescriptor:  # noqa: N802
        return self._pool.FindExtensionByNumber(message, number)

    def FindAllExtensions(self, message: Descriptor) -> list[FieldDescriptor]:  # noqa: N802
        return self._pool.FindAllExtensions(message)

    def _file_of_method(self, symbol: str) -> FileDescriptor:
        service, _, method = symbol.rpartition(".")
        found = self._pool.FindServiceByName(service)
        if method not in found.methods_by_name:
            raise KeyError(symbol)
        return found.file

    def _told(self, file: FileDescriptor) -> ReflectedFile:
        described = self._described.get(file.name)
        return file if described is None else DescribedFile(file, described)
