"""Fuzzes one target for so many seconds: `python -m tests.fuzz TARGET SECONDS [NEW_INPUTS]`.

What breaks is written to crash-*: put it into tests/fuzz/corpus/TARGET once it is mended.
"""

import sys
from pathlib import Path

import atheris

CORPUS = Path(__file__).parent / "corpus"


def main(target: str, seconds: str, new_inputs: str = "") -> None:
    with atheris.instrument_imports(include=["pool_service", "h11"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415  # it is counted as it is imported
    # The first place gets what is new.
    places = [new_inputs] if new_inputs else []
    options = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=2048"]
    atheris.Setup([sys.argv[0], *options, *places, str(CORPUS / target)], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
