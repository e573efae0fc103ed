"""Writes the manual pages of the commands, from their help.

python tools/manual_pages.py DIRECTORY
"""

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from click_man.man import ManPage

from pool_service.cli.commands import pool_service

NAME = "pool-service"
DATE = "2026-11-26"
"""Of all pages: a page changes when what it says does, and not with the day or the version."""
AT_A_LINE_START = re.compile(r"(?m)^([.'])")


def main(arguments: Sequence[str]) -> int:
    """Write a page for each command, and remove those of commands that are no more."""
    if len(arguments) != 1:
        print("usage: python tools/manual_pages.py DIRECTORY", file=sys.stderr)
        return 2
    directory = Path(arguments[0])
    directory.mkdir(parents=True, exist_ok=True)
    new = pages()
    for old in set(directory.glob("*.1")) - {directory / name for name in new}:
        old.unlink()
    for name, text in new.items():
        (directory / name).write_text(text)
    return 0


def pages() -> dict[str, str]:
    """Return the text of each page by the name of its file."""
    return {
        f"{context.command_path.replace(' ', '-')}.1": _page(context)
        for context in _contexts(_context(pool_service, NAME))
    }


def _contexts(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name, command in context.command.commands.items():
            if not command.hidden:
                yield from _contexts(_context(command, name, context))


def _context(
    command: click.Command, name: str, parent: click.Context | None = None
) -> click.Context:
    return click.Context(command, info_name=name, parent=parent, **command.context_settings)


def _page(context: click.Context) -> str:
    command = context.command
    page = ManPage(context.command_path.replace(" ", "-"))
    page.date = DATE
    page.version = NAME
    page.short_help = _escaped(_first_sentence(command))
    page.synopsis = " ".join(command.collect_usage_pieces(context))
    page.description = _escaped(_text(command.help))
    options = (one for one in command.get_params(context) if isinstance(one, click.Option))
    records = (option.get_help_record(context) for option in options)
    page.options = [(record[0], _escaped(record[1])) for record in records if record]
    text = str(page).replace(f".B {page.command}\n", f".B {context.command_path}\n", 1)
    return text + _commands(context) + _exit_codes(context) + _see_also(context)


def _commands(context: click.Context) -> str:
    if not isinstance(context.command, click.Group):
        return ""
    page = context.command_path.replace(" ", "-")
    return ".SH COMMANDS\n" + "".join(
        f".TP\n.BR {page}-{name} (1)\n{_escaped(_first_sentence(one))}.\n"
        for name, one in context.command.commands.items()
    )


def _first_sentence(command: click.Command) -> str:
    return _text(command.help).partition("\n\n")[0].replace("\n", " ").removesuffix(".")


def _text(help_text: str | None) -> str:
    """Return a help text without the marks of click."""
    return inspect.cleandoc(help_text or "").replace("\b\n", "")


def _escaped(text: str) -> str:
    lines = text.replace("\\", "\\e").replace("-", "\\-")
    return AT_A_LINE_START.sub(r"\\&\1", lines)


def _exit_codes(context: click.Context) -> str:
    """Return the section of the exit codes, which the help of the whole program ends with."""
    _, *lines = _text(context.find_root().command.epilog).splitlines()
    codes = (line.split(maxsplit=1) for line in lines)
    return ".SH EXIT STATUS\n" + "".join(
        f".TP\n{code}\n{_escaped(meaning)}\n" for code, meaning in codes
    )


def _see_also(context: click.Context) -> str:
    if context.parent is None:
        return ""
    return f".SH SEE ALSO\n.BR {NAME} (1)\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
