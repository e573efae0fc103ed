"""Text that protobuf accepts."""


def sendable(text: str) -> str:
    r"""Return the text with lone surrogates such as `\udcff` escaped."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
