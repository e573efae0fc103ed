"""What is written in the file of a lock, for others to read who holds it."""

import os


def write_note(descriptor: int, note: bytes) -> None:
    """Put it in place of what the file holds; on a full disk too, where there was one before.

    Raises OSError where it cannot be written.
    """
    os.pwrite(descriptor, note, 0)
    os.ftruncate(descriptor, len(note))
