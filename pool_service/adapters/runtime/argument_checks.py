"""Checks of configured arguments against the options that vllm-mlx has.

Names must be exact: argparse completes a name, so `--trust` would mean `--trust-remote-code`.
Options that break what the pool relies on are refused (`REFUSED_OPTIONS`).
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
_SIMILARITY = 0.75
"""The least similarity of a name that may have been meant. Names such as --lora and --port, which
have nothing to do with each other, reach 0.67."""

LISTENING = (
    "servers listen where fleet.advertise says, else on loopback; set it in the runtime's command"
)
REFUSED_OPTIONS = {
    "--port": "the pool chooses it",
    "--host": LISTENING,
    vllm_mlx.SERVED_MODEL_NAME: "set served_model_name of the runtime",
    vllm_mlx.AUTO_UNLOAD: "the pool needs it to see which servers are in use",
    "--models-config": "a server has one model",
    "--api-key": "every user of the machine could read the key; see server_keys of the runtime",
    vllm_mlx.TRUST: "set trust_remote_code = true instead",
    "--lazy-load-model": "the server would be called ready before its model is loaded",
    "--offline": "it requires every file of a repository; servers do not ask the hub anyway",
    "-h": "the server would print its options instead of serving",
}
"""The options that a model's arguments may not contain, and why."""


def parse_options(help_text: str) -> Options:
    """Return the options in the output of `vllm-mlx serve --help`; empty for other output."""
    usage = _USAGE.search(help_text)
    return {match[1]: bool(match[2]) for match in _OPTION.finditer(usage[0])} if usage else {}


async def options_of(program: Path) -> Options:
    """Return the options that a vllm-mlx has; empty if it does not list them. Takes seconds."""
    options = parse_options(await output_of(str(program), "serve", "--help") or "")
    if not options:
        _log.warning(
            "arguments of models are not checked, since the runtime does not list its options",
            program=str(program),
        )
    return options


def _hint(name: str, options: Options) -> str:
    """Return a question that names the option that was probably meant; "" if there is none.

    A refused option is named only if it begins with `name`, and with the reason for the refusal.
    """
    begun = [option for option in options if option.startswith(name)]
    allowed = [option for option in options if option not in REFUSED_OPTIONS]
    meant = begun or difflib.get_close_matches(name, allowed, 1, _SIMILARITY)
    if not meant:
        return ""
    reason = REFUSED_OPTIONS.get(meant[0], "")
    refusal = f" It cannot be set there: {reason}" if reason else ""
    return f", did you mean {meant[0]}?{refusal}"


def argument_flaw(arguments: Sequence[str], options: Options) -> str | None:
    """Return the first flaw of the arguments, in words; None if there is none."""
    return next(argument_flaws(arguments, options), None)


def argument_flaws(arguments: Sequence[str], options: Options) -> Iterator[str]:
    """Yield the flaws of the arguments, in words.

    options: those of the runtime; empty if not known: then only REFUSED_OPTIONS are flaws.
    """
    if not options:
        names = (argument.partition("=")[0] for argument in arguments)
        yield from (_refusal(name) for name in names if name in REFUSED_OPTIONS)
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
            # A value may begin with one hyphen, as a negative number does.
            if left and not left[0].startswith("--"):
                del left[0]
            else:
                yield f"{name} lacks its value"


def _without_values(arguments: list[str]) -> list[str]:
    """Return the arguments from the next option on: the values before it belong to a bad option."""
    return list(dropwhile(lambda argument: not argument.startswith("-"), arguments))


def _flaw_of_option(name: str, options: Options, *, has_value: bool) -> str | None:
    if name not in options:
        return f"{name} is no option of vllm-mlx serve{_hint(name, options)}"
    if name in REFUSED_OPTIONS:
        return _refusal(name)
    if has_value and not options[name]:
        return f"{name} takes no value"
    return None


def _refusal(name: str) -> str:
    return f"{name} cannot be set there: {REFUSED_OPTIONS[name]}"
