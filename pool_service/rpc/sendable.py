"""Makes any text one that a message can carry: names of files may be no UTF-8."""


def sendable(text: str) -> str:
    r"""Return the text with `\udcff` and the like written out, where it has such."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
