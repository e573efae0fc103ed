"""Takes from this Python the ways to make children that it has not got on macOS."""

import subprocess

setattr(subprocess, "_USE_VFORK", False)  # noqa: B010  # no public name
setattr(subprocess, "_USE_POSIX_SPAWN", False)  # noqa: B010
