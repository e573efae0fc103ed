"""Conversion of paths in configuration, flags and variables to absolute paths.

The pool's processes run in directories of their own and without a shell. Each path is therefore
expanded here, once, so that every part means the same directory.
"""

import os
import pwd
import re
from collections.abc import Mapping
from pathlib import Path

_VARIABLE = re.compile(r"\$(?:(\$)|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)
_BEGINS_A_PATH = re.compile(
    r"(?:~[^/]*|\.{1,2}|\$[A-Za-z_]\w*|\$\{[A-Za-z_]\w*\})(?:/|\Z)", re.ASCII
)


class PathFlaw(ValueError):
    """The error of a text that is not a usable path.

    The message continues a sentence that begins with the key or flag: "is empty".
    """


def absolute(text: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the absolute path that a text means.

    A leading `~` or `~USER` is a home directory, `$NAME` and `${NAME}` are variables of
    `environment`, and `$$` is a dollar sign. A relative path is relative to the directory in
    which the service was started. Raises PathFlaw.
    """
    if not text.strip():
        raise PathFlaw("is empty")
    if "\0" in text:
        raise PathFlaw("has a NUL character")
    if text != text.strip():
        raise PathFlaw(f"begins or ends with white space ({text!a}); remove that")
    filled = _VARIABLE.sub(lambda match: _value(match, environment), text)
    path = Path(_with_home(filled, environment) if text.startswith("~") else filled)
    try:
        path = path.absolute()
        str(path).encode()
    except OSError as error:
        raise PathFlaw(
            f"is relative ({text!a}), and the directory in which the service was started is gone; "
            "write an absolute path"
        ) from error
    except UnicodeEncodeError as error:
        raise PathFlaw(
            f"is not UTF-8 ({str(path)!a}), so the service could not report it; choose another path"
        ) from error
    return path


def begins_a_path(text: str) -> bool:
    """Return whether a text begins with `~`, `.`, `..` or a variable, as only a path can."""
    return _BEGINS_A_PATH.match(text) is not None


def home_directory(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the home directory from HOME, else from the user database; None if neither has one."""
    home = environment.get("HOME", "")
    if not Path(home).is_absolute():
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return Path(home) if Path(home).is_absolute() else None


def _value(match: re.Match[str], environment: Mapping[str, str]) -> str:
    if match[1]:
        return "$"
    name = match[2] or match[3]
    value = environment.get(name)
    if not value:
        raise PathFlaw(
            f"names the variable {name}, which is not set for the service; set it, write the path "
            "itself, or $$ for a dollar sign"
        )
    return value


def _with_home(text: str, environment: Mapping[str, str]) -> str:
    first, slash, rest = text.partition("/")
    user = first.removeprefix("~")
    if not user:
        home = home_directory(environment)
        if home is None:
            raise PathFlaw(
                "has no home directory to begin in: HOME is not set, and user "
                f"{os.getuid()} is not in the user database; write an absolute path"
            )
        return f"{home}{slash}{rest}"
    try:
        return f"{pwd.getpwnam(user).pw_dir}{slash}{rest}"
    except (KeyError, ValueError) as error:
        raise PathFlaw(
            f"begins with {first!a}, and there is no user of that name; write an absolute path"
        ) from error
