"""Checks arguments of the configuration by the exact names that a vllm-mlx knows.

argparse takes the beginning of a name for the whole, so that `--trust` would mean
`--trust-remote-code`; and what the pool relies on must stay as it is.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import dropwhile
from pathlib import Path

import structlog

from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.runtime.search import output_of

_log = structlog.get_logger(__name__)

Options = Mapping[str, bool]
"""The names of options, and whether each takes a value."""

_USAGE = re.compile(r"usage:.*?(?:\n\s*\n|\Z)", re.DOTALL)
_OPTION = re.compile(r"\[(--?[A-Za-z0-9][\w-]*)(\s(?:[^\[\]]|\[[^\[\]]*\])*)?\]")
_CLOSE = 0.75
"""Less alike than this is another word: --lora and --port are 0.67."""

OWNED = {
    "--port": "the pool chooses it",
    "--host": "servers listen on loopback; set it in the runtime's command",
    vllm_mlx.SERVED_MODEL_NAME: "set served_model_name of the runtime",
    vllm_mlx.AUTO_UNLOAD: "the pool tells by it who is in use",
    "--models-config": "a server has one model",
    "--api-key": "every user of the machine could read it there; servers listen on loopback",
    vllm_mlx.TRUST: "set trust_remote_code = true instead",
    "--lazy-load-model": "the server would be called ready before its model is loaded",
    "--offline": "it wants every file of a repository; servers do not ask the hub anyway",
    "-h": "it would tell of its options instead of serving",
}
"""The options that a model's arguments may not contain, and why."""


def parse_options(help_text: str) -> Options:
    """The options in the output of `vllm-mlx serve --help`; none if it is no such output."""
    usage = _USAGE.search(help_text)
    return {match[1]: bool(match[2]) for match in _OPTION.finditer(usage[0])} if usage else {}


async def options_of(program: Path) -> Options:
    """Return the options that a vllm-mlx knows; none where it does not say. Takes some seconds."""
    options = parse_options(await output_of(str(program), "serve", "--help") or "")
    if not options:
        _log.warning(
            "arguments of models are not checked, since the runtime does not tell its options",
            program=str(program),
        )
    return options


def _hint(name: str, options: Options) -> str:
    """Return a sentence that names the option that was probably meant, or nothing.

    An option that the pool owns is named only where its beginning was written, with the reason
    why it cannot be set.
    """
    begun = [option for option in options if option.startswith(name)]
    allowed = [option for option in options if option not in OWNED]
    meant = begun or difflib.get_close_matches(name, allowed, 1, _CLOSE)
    if not meant:
        return ""
    owned = f" It cannot be set there: {OWNED[meant[0]]}" if meant[0] in OWNED else ""
    return f", did you mean {meant[0]}?{owned}"


def argument_flaw(arguments: Sequence[str], options: Options) -> str | None:
    """Return the first thing that is wrong with the arguments, in words; None if nothing is."""
    return next(argument_flaws(arguments, options), None)


def argument_flaws(arguments: Sequence[str], options: Options) -> Iterator[str]:
    """Yield what is wrong with the arguments, in words.

    options: what the runtime knows; none where it does not say. Then only the options that the
    pool owns are refused: of the others nothing is known.
    """
    if not options:
        names = (argument.partition("=")[0] for argument in arguments)
        yield from (f"{name} cannot be set there: {OWNED[name]}" for name in names if name in OWNED)
        return
    left = list(arguments)
    while left:
        name, has_value, _ = left.pop(0).partition("=")
        if not name.startswith("-") or name == "--":
            yield f"{name!r} belongs to no option"
            continue
        flaw = _flaw_of_option(name, options, has_value=bool(has_value))
        if flaw is not None:
            yield flaw
            left = _without_values(left)
        elif options[name] and not has_value:
            if left and not left[0].startswith("--"):
                del left[0]
            else:
                yield f"{name} lacks its value"


def _without_values(arguments: list[str]) -> list[str]:
    """Return what begins with the next option: what stands before it belongs to the last one."""
    return list(dropwhile(lambda argument: not argument.startswith("-"), arguments))


def _flaw_of_option(name: str, options: Options, *, has_value: bool) -> str | None:
    if name not in options:
        return f"{name} is no option of vllm-mlx serve{_hint(name, options)}"
    if name in OWNED:
        return f"{name} cannot be set there: {OWNED[name]}"
    if has_value and not options[name]:
        return f"{name} takes no value"
    return None
