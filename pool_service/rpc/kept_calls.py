"""Which calls are kept as events when they fail or are abandoned, and in which words."""

from typing import Final

CHANGING: Final = frozenset({"Ensure", "Evict", "Forget", "Pin", "Pull", "Reload"})
"""The calls that may have changed something when their callers go away before the end. A Hold tells
its end by itself."""

USES: Final = CHANGING | {"Hold"}
"""The calls that are no mere looks. Views repeat their looks by themselves, so that refusals of
them would fill the events."""

GONE: Final = "the caller went away before the answer; what it asked for may go on"
ENDED: Final = "the service ended before the answer"

LONGEST_NAME: Final = 512
"""Characters of a model's name in an event; a valid name is not longer."""
