#!/bin/sh
# Prints the Python to build the environment with: $PYTHON if given, else the first of the
# usual names that is new enough. POSIX sh and an old Python's syntax only: this runs first.
set -eu

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    if new_enough "$PYTHON"; then
        echo "$PYTHON"
        exit 0
    fi
    echo "PYTHON=$PYTHON is not a Python 3.11 or later: name another, or leave PYTHON out." >&2
    exit 1
fi

for name in python3 python3.13 python3.12 python3.11 python3.14; do
    if new_enough "$name"; then
        echo "$name"
        exit 0
    fi
done

found=$(python3 --version 2>/dev/null) || found="no python3"
echo "Python 3.11 or later is needed, and $found was found: install one," >&2
echo "or say where it is: make PYTHON=/path/to/python3.12 ..." >&2
exit 1
