#!/bin/sh
# Prints the Python to build the environment with: $PYTHON if given, else the first of the
# usual names that will do. POSIX sh and an old Python's syntax only: this runs first.
set -eu

# Says what is wrong with a Python, and "ok" if it will do. No wheels of MLX are made for
# Intel Macs, macOS 13 and Python 3.15, where pip would end in an error of its own.
flaw_of() {
    "$1" -c '
import platform, sys
version = "Python %d.%d" % sys.version_info[:2]
if sys.version_info < (3, 11):
    print(version + " is too old: 3.11 to 3.14 are supported")
elif sys.version_info >= (3, 15):
    print(version + " is too new: 3.11 to 3.14 are supported")
elif sys.platform == "darwin" and platform.machine() != "arm64":
    print(version + " is a program for Intel processors: Apple silicon and an arm64 Python are needed")
elif sys.platform == "darwin" and int(platform.mac_ver()[0].split(".")[0]) < 14:
    print("macOS " + platform.mac_ver()[0] + " is too old: macOS 14 or later is needed")
else:
    print("ok")
' 2>/dev/null || echo "it is not there, or is no Python that runs"
}

if [ -n "${PYTHON:-}" ]; then
    flaw=$(flaw_of "$PYTHON")
    if [ "$flaw" = ok ]; then
        echo "$PYTHON"
        exit 0
    fi
    echo "PYTHON=$PYTHON will not do: ${flaw:-it is no Python}." >&2
    echo "Name another, or leave PYTHON out." >&2
    exit 1
fi

for name in python3 python3.13 python3.12 python3.11 python3.14; do
    flaw=$(flaw_of "$name")
    if [ "$flaw" = ok ]; then
        echo "$name"
        exit 0
    fi
    # What is most likely the person's own is what the message is about.
    first=${first:-$name: ${flaw:-it is no Python}}
done

echo "No Python from 3.11 to 3.14 was found that will do ($first)." >&2
echo "Install one, or say where it is: make PYTHON=/path/to/python3.12 ..." >&2
exit 1
