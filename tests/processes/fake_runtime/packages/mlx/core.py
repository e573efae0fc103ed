"""Arrays that are none."""

import os
from pathlib import Path


def zeros(shape: tuple[int, ...]) -> None:
    del shape


ones = zeros


def save_safetensors(path: str, weights: dict[str, None]) -> None:
    Path(path).write_text(" ".join(weights))


def clear_cache() -> None:
    pass


reset_peak_memory = clear_cache


class metal:  # noqa: N801  # as it is named
    @staticmethod
    def is_available() -> bool:
        return "WORKING_SET" in os.environ


def device_info() -> dict[str, str | int]:
    told = os.environ["WORKING_SET"]
    return {"max_recommended_working_set_size": int(told)} if told else {"device_name": "a GPU"}
