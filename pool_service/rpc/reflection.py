"""Reflection with methods by name and with the proto file's comments.

gRPC's own reflection cannot find a method by its name, as ghz and `grpcurl describe` need, and
generated code lacks the comments, which are the promises of the calls.
"""

from functools import cached_property
from pathlib import Path
from typing import Protocol, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import Default, DescriptorPool

from pool_service import v1

DESCRIBED = Path(v1.__file__).with_name("described.binpb")
"""The files of proto/ with their comments, by tools/generate_stubs.py.

Made by `make dist` and `make setup`, and not in the repository: a package that is built without
`make` lacks the file, and its reflection has no comments.
"""


def described_pool() -> DescriptorPool:
    """Return the descriptor pool for reflection."""
    # Reflection calls no other methods of a pool than DescribedPool has.
    return cast("DescriptorPool", DescribedPool())


class DescribedFile:
    """A file for gRPC's reflection, whose serialized copy has the comments."""

    def __init__(self, file: FileDescriptor, described: FileDescriptorProto) -> None:
        self.name = file.name
        self.dependencies = file.dependencies
        self._file = file
        self._described = described

    def CopyToProto(self, proto: FileDescriptorProto) -> None:  # noqa: N802  # protobuf's name
        # Only the comments: without JSON names, grpcurl prints fields as in the proto file.
        self._file.CopyToProto(proto)
        proto.source_code_info.CopyFrom(self._described.source_code_info)


class ReflectedFile(Protocol):
    """The part of a FileDescriptor that gRPC's reflection uses."""

    @property
    def name(self) -> str: ...

    def CopyToProto(self, proto: FileDescriptorProto) -> None: ...  # noqa: N802


class DescribedPool:
    """The part of protobuf's DescriptorPool that gRPC's reflection uses, over the default one."""

    def __init__(self) -> None:
        self._pool: DescriptorPool = Default()
        # Now: a later version may take its place while this one runs.
        self._content = DESCRIBED.read_bytes() if DESCRIBED.exists() else b""

    def FindFileByName(self, name: str) -> ReflectedFile:  # noqa: N802
        """Return a file; like the other methods, raise KeyError if there is none."""
        return self._with_comments(self._pool.FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> ReflectedFile:  # noqa: N802
        try:
            file = self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            file = self._file_of_method(symbol)
        return self._with_comments(file)

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

    @cached_property
    def _described(self) -> dict[str, FileDescriptorProto]:
        """The files with their comments, which few services are ever asked for."""
        files = FileDescriptorSet.FromString(self._content).file
        return {file.name: file for file in files}

    def _with_comments(self, file: FileDescriptor) -> ReflectedFile:
        described = self._described.get(file.name)
        return file if described is None else DescribedFile(file, described)
