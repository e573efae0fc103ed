"""Shell completion: of model names, also in bash, which splits words at colons."""

import os
from collections.abc import Iterator
from typing import Final

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    split_arg_string,
)

from pool_service.cli.options import Target, Utf8Text

ANSWER_LIMIT_S: Final = 0.5
"""Time for the service to answer: the user has pressed Tab and waits."""

_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' completion type value
    COMPREPLY=()
    for completion in $(COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
            %(complete_var)s=bash_complete "$1" 2>/dev/null); do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class ModelName(Utf8Text):
    """The type of a MODEL argument, completed with the service's models.

    Without a service, completed with the configuration that POOL_SERVICE_CONFIG names.
    """

    def __init__(self, *, running: bool = False) -> None:
        """running: complete only models that have a server."""
        self._running = running

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """Return the model names that begin with `incomplete`, each with its state or model."""
        del param
        try:
            names = _known_names(ctx.obj, running=self._running)
            return [
                CompletionItem(name, help=names[name] or None)
                for name in sorted(names)
                if name.startswith(incomplete)
            ]
        except Exception:  # noqa: BLE001  # a message would appear in the line being typed
            return []


def _known_names(target: Target, *, running: bool) -> dict[str, str]:
    from pool_service_client import PoolError

    try:
        return dict(_names_of_service(target, running=running))
    except PoolError:
        return {} if running else dict(_names_of_configuration())


def _names_of_service(target: Target, *, running: bool) -> Iterator[tuple[str, str]]:
    """Yield names with descriptions: models, then servers, whose state replaces the model's."""
    from pool_service.cli.connection import client
    from pool_service_client import ServerRole

    with client(target) as pool:
        if not running:
            for model in pool.models(timeout=ANSWER_LIMIT_S):
                yield model.model, "on disk" if model.on_disk else ""
                yield from ((alias, model.model) for alias in model.aliases)
        for page in pool.pages(timeout=ANSWER_LIMIT_S):
            current = (one for one in page.servers if one.role is ServerRole.CURRENT)
            yield from ((server.model, server.state.name) for server in current)


def _names_of_configuration() -> Iterator[tuple[str, str]]:
    from pool_service.config import load

    # `may_be_empty=False` never waits for the writer of a pipe.
    for name, model in load(None, {}, os.environ, may_be_empty=False).models.items():
        yield name, ""
        yield from ((alias, name) for alias in model.aliases)


@add_completion_class
class ColonBashComplete(BashComplete):
    """Completes bash's command line from its text instead of from bash's words.

    Bash splits words at colons, which model names and addresses contain, and replaces only the
    part after the last colon.
    """

    source_template = _BASH
    _kept = ""
    """The part of the completed word, up to its last colon, that bash does not replace."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the completed one, and the completed one."""
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)[1:]
        last = "" if not words or line[-1:].isspace() else words.pop()
        splits = ":" in os.environ.get("COMP_WORDBREAKS", "")
        self._kept = last[: last.rfind(":") + 1] if splits else ""
        return words, last

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return the line that passes a completion to bash."""
        return f"{item.type},{item.value.removeprefix(self._kept)}"
