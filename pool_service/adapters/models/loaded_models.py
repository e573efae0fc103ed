"""The models that one server loads, its own and those in its arguments, and checks of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pool_service.adapters.models.code_check import code_in
from pool_service.adapters.models.files import ModelFiles, locate
from pool_service.adapters.models.hub_cache import cached_models, partial_bytes
from pool_service.adapters.system.writers import WriterCheck
from pool_service.core import names
from pool_service.core.errors import CodeNotTrusted, ModelNotOnDisk, ModelRejected


@dataclass(frozen=True, slots=True)
class LoadedModels:
    """The files of the models that one server loads.

    files: those of its own model; None if there are none.
    further: those of the models in its arguments, by name; None if there are none.
    tools_file: the file that names programs to run as tools, if any.
    similar: models on disk with names similar to that of a missing model.
    partial_bytes: bytes of the model's incomplete download.
    """

    files: ModelFiles | None
    further: Mapping[str, ModelFiles | None]
    tools_file: Path | None = None
    similar: tuple[str, ...] = ()
    partial_bytes: int = 0

    @property
    def disk_bytes(self) -> int:
        """The bytes of the model's tensors and of its incomplete download."""
        return (self.files.weight_bytes if self.files else 0) + self.partial_bytes

    @property
    def paths(self) -> tuple[Path, ...]:
        """The directories, or only files, of all models, the server's own first."""
        return tuple(files.path for files in self._present)

    @property
    def weight_bytes(self) -> int:
        """The bytes of the tensors of all models together."""
        return sum(files.weight_bytes for files in self._present)

    @property
    def _present(self) -> Iterator[ModelFiles]:
        return (files for files in (self.files, *self.further.values()) if files is not None)

    def check_writers(self, model: str, trusted: tuple[Path, ...]) -> None:
        """Raise ModelRejected if users other than this one and root could change any of the files.

        trusted: directories that are not checked. Blocking.
        """
        try:
            flaw = self._flaw(WriterCheck(trusted))
        except OSError as error:
            flaw = f"{error.filename} cannot be checked ({error.strerror})"
        if flaw:
            raise ModelRejected(
                f"{model!r} is not loaded, because other users could change its files: "
                f"{flaw}. If that is meant to be so, name the directory in [service] "
                "trusted_directories.",
                model=model,
            )

    def _flaw(self, writers: WriterCheck) -> str:
        """Return the first file that other users could change, and why; "" if none.

        Raises OSError.
        """
        for files in self._present:
            found = writers.flaw_below(files.path) or writers.flaw(_revision_file(files.path))
            if found:
                return str(found)
        return str((self.tools_file and writers.flaw(self.tools_file)) or "")

    def check_code(self, model: str) -> None:
        """Raise CodeNotTrusted if any of the models brings code of its own. Blocking."""
        brought = tuple(each for files in self._present for each in code_in(files.path))
        if brought:
            raise CodeNotTrusted(
                f"{model!r} brings code of its own, which would run here: "
                f"{', '.join(brought[:5])}. If you trust it, set trust_remote_code = true for it "
                "in the configuration and reload.",
                model=model,
                files=brought,
            )

    def check_further_on_disk(self, model: str) -> None:
        """Raise ModelNotOnDisk if a further model is missing, as no Ensure downloads those."""
        for name, files in self.further.items():
            if files is None or not files.weight_bytes:
                raise ModelNotOnDisk(
                    f"{model!r} cannot be started: its arguments name {name!r}, whose files are "
                    f"not on this machine. Run 'pool-service pull {name}', or correct the "
                    "arguments.",
                    model=model,
                )


def find_loaded_models(
    runtime_model: str,
    further: Sequence[str],
    environment: Mapping[str, str],
    tools_file: Path | None = None,
) -> LoadedModels:
    """Return the models that a server with this environment would load. Blocking."""
    beside = {name: locate(name, environment) for name in further}
    files = locate(runtime_model, environment)
    similar = () if files is not None else _similar_models(runtime_model, environment)
    is_whole = files is not None and files.complete
    partial = 0 if is_whole else partial_bytes(runtime_model, environment)
    return LoadedModels(files, beside, tools_file, similar, partial)


def _similar_models(runtime_model: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the complete models of the cache with names similar to this one."""
    if Path(runtime_model).is_absolute():
        return ()
    near = names.similar(runtime_model, cached_models(environment))
    found = {name: locate(name, environment) for name in near}
    return tuple(name for name, files in found.items() if files is not None and files.complete)


def _revision_file(path: Path) -> Path:
    """Return the file that names the snapshot of the Hub's cache to load; else the path itself."""
    if path.parent.name != "snapshots":
        return path
    return path.parents[1] / "refs" / "main"
