"""Becomes a `vllm-mlx`: imports all that one needs, waits to be told its arguments, runs them.

    PYTHON standby_child.py PROGRAM

It is run by the runtime's interpreter, which need not be the service's, and so needs nothing
but that. Its input is a unix socket to the service. The service sends one line of JSON,
{"argv": [...]}, and with it the descriptor for all that is written from then on. It sends
lines itself: {"stamps": {path: nanoseconds}} (when what it imports was changed last),
{"warm": true} (nothing is left to do; with "working_set", the bytes that Metal recommends to
keep resident), {"taken": true} (it has its arguments), {"ready": true} (its server listens). A
service that is gone before it has told the arguments ends it; later nothing of it hangs on the
service.

Told at once, it imports nothing ahead: it is then the plain command, but that it says when
it is ready, and that nobody reads its arguments in the table of processes. Like that it
goes by `server_child.py`, which refuses foreign code and foreign pages.
"""

import sys

if __name__ == "__main__":
    # What lies beside this file is no part of the runtime.
    del sys.path[0]

import contextlib
import importlib
import importlib.util
import json
import os
import select
import shutil
import signal
import socket
import sysconfig
import tempfile
import threading
from pathlib import Path
from typing import Any

LOWEST = 19
DARWIN_PROCESS, DARWIN_BACKGROUND = 4, 0x1000
"""<sys/resource.h> of macOS: PRIO_DARWIN_PROCESS and PRIO_DARWIN_BG."""

MODULES = ["uvicorn", "fastapi", "transformers", "mlx_lm", "vllm_mlx.cli", "vllm_mlx.server"]
# What uvicorn imports when it starts; of another version they may have other names.
LATE = ["uvicorn.lifespan.on", "uvicorn.loops.auto", "uvicorn.protocols.http.auto"]
LATE += ["uvicorn.protocols.websockets.auto"]

MOST = 1 << 20
"""Bytes of a line; the system allows no more arguments."""


class Channel:
    """The socket to the service."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._received = b""
        self._log = -1

    @property
    def is_told(self) -> bool:
        """Whether the service has said something, or is gone."""
        return bool(select.select([self._end], [], [], 0)[0])

    def tell(self, **fields: object) -> None:
        # Nobody listens any more: that changes nothing.
        with contextlib.suppress(OSError):
            self._end.sendall((json.dumps(fields) + "\n").encode())

    def order(self) -> "tuple[list[str], int] | None":
        """Wait for the arguments and the descriptor for what is written; None: end."""
        while b"\n" not in self._received:
            chunk, logs, _, _ = socket.recv_fds(self._end, MOST, 1)
            if not chunk:
                return None
            self._received += chunk
            self._log = logs[0] if logs else self._log
        return json.loads(self._received)["argv"], self._log

    def wait(self, done: int) -> None:
        """Return when there is an order or `done` is readable."""
        select.select([self._end.fileno(), done], [], [])

    def close(self) -> None:
        self._end.close()


def stamps() -> "dict[str, int]":
    """When each place that it imports from was changed last."""
    paths = {sys.argv[1], sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):
            found[path] = os.stat(path).st_mtime_ns  # noqa: PTH116  # as the service does
    return found


def give_way() -> None:
    """Let the processor be others' first, until `claim`.

    On Linux for this thread alone, since a process could not go back; on macOS for the whole
    process, since nobody could lift it from a thread, which then would go on at its pace though
    a caller waits.
    """
    with contextlib.suppress(OSError):
        if sys.platform == "darwin":
            os.setpriority(DARWIN_PROCESS, 0, DARWIN_BACKGROUND)
        else:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)


def claim() -> None:
    """Do what is left in haste: somebody waits, or there is nothing left."""
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):
            os.setpriority(DARWIN_PROCESS, 0, 0)


def import_ahead(channel: Channel, done: int, failures: "list[Exception]") -> None:
    """Import what a server needs, until there is an order: the rest is then done in haste."""
    give_way()
    try:
        for name in MODULES:
            if channel.is_told:
                break
            importlib.import_module(name)
    except Exception as error:  # noqa: BLE001  # told by the thread that waits
        failures.append(error)
    os.close(done)


def prepare(channel: Channel) -> None:
    """Do beforehand what can be done without knowing the model."""
    # Here, since its threads have the priority of the one that imports it.
    importlib.import_module("numpy")
    failures: list[Exception] = []
    finished, done = os.pipe()
    arguments = (channel, done, failures)
    thread = threading.Thread(target=import_ahead, args=arguments, daemon=True)
    thread.start()
    channel.wait(finished)
    claim()
    thread.join()
    os.close(finished)
    if failures:
        raise failures[0]
    if not channel.is_told:
        rehearse()


def rehearse() -> None:
    """Load and run a model of no size: what the libraries put off is done then."""
    for name in LATE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    directory = tempfile.mkdtemp(dir=".")
    try:
        write_checkpoint(Path(directory))
        generate(directory)
    finally:
        shutil.rmtree(directory)


def working_set() -> "dict[str, int]":
    """Return what Metal recommends to keep resident, in bytes, by its name; {} without Metal."""
    # Not of every version: the service then goes by a rule.
    with contextlib.suppress(Exception):
        import mlx.core as mx  # noqa: PLC0415

        if mx.metal.is_available():
            look = getattr(mx, "device_info", None) or mx.metal.device_info
            return {"working_set": int(look()["max_recommended_working_set_size"])}
    return {}


def generate(directory: str) -> None:
    import mlx.core as mx  # noqa: PLC0415
    import mlx_lm  # noqa: PLC0415

    model, tokenizer = mlx_lm.load(directory)[:2]
    mlx_lm.generate(model, tokenizer, "a", max_tokens=2)
    del model
    mx.clear_cache()
    mx.reset_peak_memory()


def write_checkpoint(directory: Path) -> None:
    """A Llama with one layer, all zeros, and a tokenizer of two letters."""
    import mlx.core as mx  # noqa: PLC0415
    from tokenizers import Tokenizer, models  # noqa: PLC0415

    hidden, tokens = 32, {"a": 0, "b": 1, "<end>": 2}
    config: dict[str, Any] = {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": hidden,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-5,
        "vocab_size": len(tokens),
        "tie_word_embeddings": True,
        "eos_token_id": 2,
    }
    (directory / "config.json").write_text(json.dumps(config))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(kind))
    model = models.WordLevel(vocab=tokens, unk_token="<end>")  # noqa: S106  # no password
    Tokenizer(model).save(str(directory / "tokenizer.json"))
    layer = "model.layers.0"
    names = [f"{layer}.self_attn.{name}_proj" for name in "qkvo"]
    names += [f"{layer}.mlp.{name}_proj" for name in ("gate", "up", "down")]
    weights = {f"{name}.weight": mx.zeros((hidden, hidden)) for name in names}
    for name in ("model.norm", f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm"):
        weights[f"{name}.weight"] = mx.ones((hidden,))
    weights["model.embed_tokens.weight"] = mx.zeros((len(tokens), hidden))
    mx.save_safetensors(str(directory / "model.safetensors"), weights)


def say_when_ready(channel: Channel) -> None:
    """Let the server say when it listens, and let SIGTERM end it at once until then.

    Its own handler would let it finish a load that nobody waits for any more.
    """
    import uvicorn  # noqa: PLC0415

    startup = uvicorn.Server.startup

    async def told(self: Any, *arguments: Any, **named: Any) -> None:  # noqa: ANN401
        handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        await startup(self, *arguments, **named)
        signal.signal(signal.SIGTERM, handler)
        # A load that failed ends here too, with the older of the versions that there may be.
        if self.started:
            channel.tell(ready=True)
        channel.close()

    uvicorn.Server.startup = told  # type: ignore[method-assign]


def write_to(log: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)


def beside(name: str) -> Any:  # noqa: ANN401
    """A module that lies beside this file, which is no place to import from."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    server_child = beside("server_child")
    # A copy that no descendant gets; and the input of a server is empty.
    channel = Channel(socket.socket(fileno=os.dup(0)))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    channel.tell(stamps=stamps())
    if not channel.is_told:
        prepare(channel)
        channel.tell(warm=True, **working_set())
    order = channel.order()
    if order is None:
        return
    sys.argv, log = order
    write_to(log)
    channel.tell(taken=True)
    server_child.guard(sys.argv, os.environ)
    say_when_ready(channel)
    cli = importlib.import_module("vllm_mlx.cli")
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
