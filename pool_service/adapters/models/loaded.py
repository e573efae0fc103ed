"""The models that a server loads, its own and those in its arguments, and checks of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pool_service.adapters.models.code_check import code_in
from pool_service.adapters.models.files import ModelFiles, locate
from pool_service.adapters.models.hub_cache import cached_models, part_bytes
from pool_service.adapters.system.writers import Writers
from pool_service.core.errors import CodeNotTrusted, ModelNotOnDisk, ModelRejected
from pool_service.core.names import similar


@dataclass(frozen=True, slots=True)
class Loaded:
    """The files of a model and, by their names, of the further ones; None where there are none.

    commanding: the file that says which programs are run besides, if one does; meant: models
    that are there, with names similar to that of a model that is not; parts: bytes of a
    download of the model that is not whole.
    """

    files: ModelFiles | None
    further: Mapping[str, ModelFiles | None]
    commanding: Path | None = None
    meant: tuple[str, ...] = ()
    parts: int = 0

    @property
    def disk_bytes(self) -> int:
        """The bytes of the model's tensors and of its partial download."""
        return (self.files.weights if self.files else 0) + self.parts

    @property
    def weights(self) -> int:
        """The bytes of the tensors of all models."""
        return sum(files.weights for files in self._present)

    @property
    def _present(self) -> Iterator[ModelFiles]:
        return (files for files in (self.files, *self.further.values()) if files is not None)

    def check_writers(self, model: str, trusted: tuple[Path, ...]) -> None:
        """Raise ModelRejected if others than this user and root could change what is loaded."""
        try:
            flaw = self._flaw(Writers(trusted))
        except OSError as error:
            flaw = f"{error.filename} cannot be looked at ({error.strerror})"
        if flaw:
            raise ModelRejected(
                f"{model!r} is not loaded, because other users could change its files: "
                f"{flaw}. If that is meant to be so, name the directory in [service] "
                "trusted_directories.",
                model=model,
            )

    def _flaw(self, writers: Writers) -> str:
        """Return what others could change, or nothing. Raises OSError."""
        for files in self._present:
            found = writers.flaw_below(files.path) or writers.flaw(_says_which(files.path))
            if found:
                return str(found)
        return str((self.commanding and writers.flaw(self.commanding)) or "")

    def check_code(self, model: str) -> None:
        """Raise CodeNotTrusted if any of them brings code of its own."""
        brought = tuple(each for files in self._present for each in code_in(files.path))
        if brought:
            raise CodeNotTrusted(
                f"{model!r} brings code of its own, which would run here: "
                f"{', '.join(brought[:5])}. If you trust it, set trust_remote_code = true for it "
                "in the configuration and reload.",
                model=model,
                files=brought,
            )

    def check_on_disk(self, model: str) -> None:
        """Raise ModelNotOnDisk if a further one is missing, which no Ensure downloads."""
        for name, files in self.further.items():
            if files is None or not files.weights:
                raise ModelNotOnDisk(
                    f"{model!r} cannot be started: its arguments name {name!r}, whose files are "
                    f"not on this machine. Run 'pool-service pull {name}', or correct the "
                    "arguments.",
                    model=model,
                )


def found(
    runtime_model: str,
    further: Sequence[str],
    environment: Mapping[str, str],
    commanding: Path | None = None,
) -> Loaded:
    """Return what a process with this environment would load. Blocking."""
    beside = {name: locate(name, environment) for name in further}
    files = locate(runtime_model, environment)
    meant = () if files is not None else _meant(runtime_model, environment)
    is_whole = files is not None and files.complete
    parts = 0 if is_whole else part_bytes(runtime_model, environment)
    return Loaded(files, beside, commanding, meant, parts)


def _meant(runtime_model: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the models of the cache that may have been meant, and that could be loaded."""
    if Path(runtime_model).is_absolute():
        return ()
    near = similar(runtime_model, cached_models(environment))
    found = {name: locate(name, environment) for name in near}
    return tuple(name for name, files in found.items() if files is not None and files.complete)


def _says_which(path: Path) -> Path:
    """Return the file that says which snapshot of the hub's cache is loaded; else the path."""
    if path.parent.name != "snapshots":
        return path
    return path.parents[1] / "refs" / "main"
