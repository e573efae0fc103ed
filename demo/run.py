"""The demo: one model from nothing to an answer, by the commands that a person would type."""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from demo.service import RunningService, command, running
from demo.smollm2 import prepare_smollm2

CACHE = Path(".cache")
MODEL = "smollm2-135m"
QUESTION = "What is the capital of France?"
ANSWER_TIMEOUT = 120.0


def main() -> int:
    """Run the demo; returns the exit code."""
    directory = prepare_smollm2(CACHE / "models", _say)
    _say("\nStarting the service.")
    with running(CACHE.absolute() / "demo") as service:
        _say(f"It listens on {service.address}.")
        began = time.monotonic()
        server = _ensure(service, directory)
        _say(f"Ready at {server['endpoint']} after {time.monotonic() - began:.1f} s.\n")
        answer = ask(server["endpoint"], server["served_model_name"], QUESTION)
        _say(f"You:   {QUESTION}\nModel: {answer}\n")
        _type(service, "list")
        _type(service, "evict", MODEL)
        _say("\nStopping the service.")
    return 0 if "Paris" in answer else 1


def _ensure(service: RunningService, directory: Path) -> dict[str, str]:
    """Make the model ready; its state is shown while it loads."""
    arguments = ["ensure", MODEL, "--runtime-model", str(directory.absolute()), "--json"]
    printed = _type(service, *arguments, keep=True)
    server: dict[str, str] = json.loads(printed)["server"]
    return server


def _type(service: RunningService, *arguments: str, keep: bool = False) -> str:
    """Run one `pool-service` command; `keep`: return what it prints instead of showing it."""
    _say(f"$ pool-service {' '.join(arguments)}")
    done = subprocess.run(
        command("--address", service.address, *arguments),
        check=False,
        stdout=subprocess.PIPE if keep else None,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"This failed. The service's log is {service.log}.")
    return done.stdout or ""


def ask(endpoint: str, served_model_name: str, question: str) -> str:
    """One chat completion straight from the model's server, not through the service."""
    body = {
        "model": served_model_name,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": 24,
        "temperature": 0.0,
    }
    request = urllib.request.Request(  # noqa: S310  # the endpoint is http on loopback
        f"{endpoint}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT) as response:  # noqa: S310
        content: str = json.load(response)["choices"][0]["message"]["content"]
    return content.strip()


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
