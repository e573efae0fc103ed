"""Arrays that are none."""

from pathlib import Path


def zeros(shape: tuple[int, ...]) -> None:
    del shape


ones = zeros


def save_safetensors(path: str, weights: dict[str, None]) -> None:
    Path(path).write_text(" ".join(weights))


def clear_cache() -> None:
    pass


reset_peak_memory = clear_cache
