"""Reads the sessions of a document: what is typed there, and what it says is printed.

In a block ```console a line `$ …` is a command, and what follows until the next one is what it
prints, on both its outputs. A last line `^C` says that it goes on until it is interrupted.
`$ echo $?` shows the exit code of the command before it, which otherwise is 0.
"""

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

EXIT_CODE = "echo $?"
INTERRUPT = "^C"

VOLATILE: tuple[tuple[str, str], ...] = (
    # Of a server: each start has its own.
    (r"http://127\.0\.0\.1:\d+", "ENDPOINT"),
    (r'("pid": |\bpid )\d+', r"\1PID"),
    (r'("(\w+_)?time": )"[0-9T:.-]+Z"', r"\1TIME"),
    (r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "DATE "),
    # Events and descriptions: times, memory, and the caller's port.
    (r"(?<![T\d-])\d\d:\d\d:\d\d\b", "TIME"),
    (r"^[A-Z][a-z]+day \d{4}-\d\d-\d\d$", "DAY"),
    (r"(queued|spawned in|loaded in|Usual load:) +\d[\d.hms]*( \d+s)?", r"\1 DURATION"),
    # A server that runs is measured some time after its start.
    (r"; at most \d[\d.]* [kMG]B", ""),
    # How much a server is worth keeping, and whether it was used just now.
    (r"worth [\d.]+ s(, in its grace period until TIME)?", "worth SECONDS"),
    (r"\d+s ago, at TIME", "AGO"),
    (r'("ts": )"[0-9T:.-]+Z"', r"\1TIME"),
    (r"\b127\.0\.0\.1:\d+: (started|evicted)", r"CALLER: \1"),
    (r'("peer": "ipv4:127.0.0.1:)\d+', r"\1PORT"),
    # Where the service keeps its state.
    (r'[^\s"]*/logs/', "STATE/logs/"),
    # The service begins to count at the time of day.
    (r'("revision": "|\brevision )\d+', r"\1REVISION"),
    # A cursor has the inode of a log.
    (r'("cursor": )"[\d.]+"', r"\1CURSOR"),
    # What a server took of memory; on the wire only once it was looked at.
    (r',\n *"(footprint|peak)_bytes": "\d+"', ""),
    (r'("(footprint|peak)_bytes": )\d+', r"\1BYTES"),
    (r"(-|[\d.]+ [kMG]B) / ", "USED / "),
    # What the machine has of it.
    (r'("memory_(available|total)_bytes": )"\d+"', r"\1BYTES"),
    (r"[\d.]+ [kMG]B available", "BYTES available"),
    # Whether this machine can confine servers.
    (r"^ +sandbox +\S.* \(default\)$", "  sandbox  CONFINED (default)"),
    # Tables: their columns are as wide as what is in them.
    (r"(?<=\S) {2,}(?=\S)", "  "),
    (r" +$", ""),
    (r"^(\S+  READY  \d+  )\d+", r"\1PID"),
    (r"  \d+[smh]  (in \d+[smh]|held|-)$", "  AGE  EXPIRES"),
    # How often a download tells how far it is.
    (r'(\{\n( *"(done|total)_bytes": .*\n)+\}\n)+(?=\{)', ""),
    # ghz: durations, rates, and how the calls fall into its buckets.
    (r"^ *[\d.]+ \[\d+\]\t\|∎*$", "BUCKET"),
    (r"[\d.]+ (ns|µs|ms|s)$", "DURATION"),
    (r"psk_[\w-]{43}", "KEY"),
    (r"(Requests/sec:\t)[\d.]+", r"\1RATE"),
)
"""What differs from run to run, by patterns that are applied to both sides, in this order."""


@dataclass(frozen=True, slots=True)
class Command:
    """One line that is typed, and what the document shows of it."""

    line: str
    shown: str
    interrupted: bool
    code: int


def commands(document: str) -> list[Command]:
    """All commands of its console blocks, in their order."""
    found: list[Command] = []
    for block in re.findall(r"^```console\n(.*?)^```$", document, re.MULTILINE | re.DOTALL):
        found += _commands_of(block)
    return found


def _commands_of(block: str) -> Iterator[Command]:
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    assert not parts[0], f"a session begins with a command, not with {parts[0]!r}"
    steps = list(zip(parts[1::2], parts[2::2], strict=True))
    for (line, printed), (after, code) in zip(steps, [*steps[1:], ("", "")], strict=True):
        if line == EXIT_CODE:
            continue
        shown = printed.removesuffix(f"{INTERRUPT}\n")
        expected = int(code) if after == EXIT_CODE else 0
        yield Command(line, shown, interrupted=shown != printed, code=expected)


def normalized(text: str) -> str:
    """Without what differs from run to run."""
    for pattern, replacement in VOLATILE:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text.strip("\n")


def run(command: Command, line: str, directory: Path, environment: Mapping[str, str]) -> str:
    """What `line` prints, followed by its exit code if that is not as the document says.

    One that goes on is interrupted as soon as it has printed as many lines as the document
    shows of it.
    """
    process = subprocess.Popen(
        ["/bin/sh", "-c", line],
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as output:
        if not command.interrupted:
            printed = output.read()
            code = process.wait()
            return printed if code == command.code else f"{printed}\nexit code {code}"
        printed = _until_as_much(output, normalized(command.shown))
        os.killpg(process.pid, signal.SIGINT)
        printed += output.read()
        process.wait()
        return printed


def _until_as_much(output: Iterator[str], shown: str) -> str:
    printed = ""
    for line in output:
        printed += line
        if normalized(printed).count("\n") >= shown.count("\n"):
            break
    return printed
