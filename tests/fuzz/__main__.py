"""Fuzzes one target for so many seconds: `python -m tests.fuzz TARGET SECONDS [NEW_INPUTS]`.

The target `everything` is all of them by turns, which wants a directory for new inputs.

What breaks is written to crash-*: put it into tests/fuzz/corpus/TARGET once it is mended.
"""

import sys
from pathlib import Path

import atheris

CORPUS = Path(__file__).parent / "corpus"


def main(target: str, seconds: str, new_inputs: str = "") -> None:
    with atheris.instrument_imports(include=["pool_service", "h11"]):
        # It is counted as it is imported.
        from tests.fuzz.targets import TARGETS, everything  # noqa: PLC0415
    # The first place gets what is new.
    places = [new_inputs] if new_inputs else []
    options = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=2048"]
    if target == "everything":
        for number, name in enumerate(TARGETS):
            for file in (CORPUS / name).iterdir():
                (Path(new_inputs) / f"{name}-{file.name}").write_bytes(
                    bytes([number]) + file.read_bytes()
                )
    else:
        places.append(str(CORPUS / target))
    run = TARGETS.get(target, everything)
    atheris.Setup([sys.argv[0], *options, *places], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
