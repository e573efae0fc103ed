"""A standby: imports everything that vllm-mlx needs, waits for arguments, then runs it.

    PYTHON standby_child.py PROGRAM

The runtime's interpreter runs this file, so it imports only the standard library and the runtime.
Its standard input is a unix socket to the service. The service sends one line of JSON,
{"argv": [...], "variables": {...}, "key": "...", "sandbox": {...}}, with a descriptor for the
output from then on; the key is the one that requests must show, empty for none. The standby sends
lines of JSON:
- {"stamps": {path: nanoseconds}}: modification times of the places that it imports from;
- {"warm": true}: nothing is left to do ahead; with "working_set", the bytes that Metal recommends
  to keep resident;
- {"taken": true}: it has received the arguments;
- {"ready": true}: its server listens.
It exits if the service ends before sending the arguments; afterwards it does not depend on the
service.

If the arguments are there from the start, the standby imports nothing ahead and behaves like the
plain command, except that it sends the ready message, and that `ps` does not show its arguments.
Both use `server_child.py`, which refuses foreign code and foreign web pages.

If `confinement/` is told to, it confines the standby before anything else, and further when the
standby has its arguments: to the "sandbox" that comes with them.
"""

import sys

if __name__ == "__main__":
    # The files beside this one are no part of the runtime.
    del sys.path[0]

import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import socket
import sysconfig
import tempfile
import threading
from pathlib import Path
from typing import Any

LOWEST_PRIORITY = 19
"""The highest nice value of Linux."""

DARWIN_PROCESS, DARWIN_BACKGROUND = 4, 0x1000
"""PRIO_DARWIN_PROCESS and PRIO_DARWIN_BG of macOS's <sys/resource.h>."""

MODULES = ["uvicorn", "fastapi", "transformers", "mlx_lm", "vllm_mlx.cli", "vllm_mlx.server"]
LATE_MODULES = ["uvicorn.lifespan.on", "uvicorn.loops.auto", "uvicorn.loops.asyncio"]
LATE_MODULES += ["uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto"]
# The loop of uvicorn where it is installed.
LATE_MODULES += ["uvloop", "uvicorn.loops.uvloop"]
LATE_MODULES += ["prometheus_client", "anyio._backends._asyncio", "encodings.unicode_escape"]
LATE_MODULES += ["vllm_mlx.engine_core", "mlx_vlm", "vllm_mlx.text_model_from_vlm"]
LATE_MODULES += ["vllm_mlx.mllm_scheduler", "mlx_vlm.models.qwen3_5", "mlx_vlm.models.gemma4"]
LATE_MODULES += ["mlx_vlm.models.glm4v_moe"]
"""Modules that vllm-mlx imports when it loads a model, or answers the first request.

mlx_vlm alone takes 60 ms and 8 MiB, and the first request of any model imports it. The models are
those that vllm-mlx patches whenever it serves a multimodal model by continuous batching. Other
versions may lack a module, have it under another name, or fail to import it; a server that needs it
reports that.
"""

MAX_MESSAGE_BYTES = 1 << 20
"""No less than the system's own limit on a process's arguments."""


class Channel:
    """The socket to the service."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._received = b""
        self._log = -1

    @property
    def has_input(self) -> bool:
        """Whether the service has sent something, or has closed the socket."""
        return bool(select.select([self._end], [], [], 0)[0])

    def send(self, **fields: object) -> None:
        """Send a message to the service; do nothing if the service is gone."""
        with contextlib.suppress(OSError):
            self._end.sendall((json.dumps(fields) + "\n").encode())

    def receive_arguments(self) -> "tuple[dict[str, Any], int] | None":
        """Wait for the message with the arguments, and the output descriptor.

        None if the service is gone.
        """
        while b"\n" not in self._received:
            chunk, logs, _, _ = socket.recv_fds(self._end, MAX_MESSAGE_BYTES, 1)
            if not chunk:
                return None
            self._received += chunk
            self._log = logs[0] if logs else self._log
        return json.loads(self._received), self._log

    def wait(self, descriptor: int) -> None:
        """Wait until the service has sent something or `descriptor` is readable."""
        select.select([self._end.fileno(), descriptor], [], [])

    def close(self) -> None:
        self._end.close()


def stamps() -> "dict[str, int]":
    """Return the modification times (ns) of the places that modules are imported from."""
    paths = {sys.argv[1], sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):
            found[path] = os.stat(path).st_mtime_ns  # noqa: PTH116  # as the service does
    return found


def lower_priority() -> None:
    """Lower the CPU priority until `restore_priority`.

    On Linux the priority of this thread alone, as a process may not raise its priority again. On
    macOS that of the whole process, as one thread cannot lift another's background state.
    """
    with contextlib.suppress(OSError):
        if sys.platform == "darwin":
            os.setpriority(DARWIN_PROCESS, 0, DARWIN_BACKGROUND)
        else:
            # Here 0 is this thread: a confined process may name no other.
            os.setpriority(os.PRIO_PROCESS, 0, LOWEST_PRIORITY)


def restore_priority() -> None:
    """Restore the CPU priority on macOS, as a caller waits or the work ahead is done.

    On Linux only the thread that imports has a lower priority, until it ends.
    """
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):
            os.setpriority(DARWIN_PROCESS, 0, 0)


def import_ahead(channel: Channel, end: int, failures: "list[Exception]") -> None:
    """Import a server's modules at low priority, until the arguments arrive.

    end: a descriptor to close at the end. failures: gets the error if an import fails.
    """
    lower_priority()
    try:
        for name in [*MODULES, *LATE_MODULES]:
            if channel.has_input:
                break
            try:
                importlib.import_module(name)
            except Exception:
                if name in MODULES:
                    raise
    except Exception as error:  # noqa: BLE001  # raised again by `prepare`
        failures.append(error)
    os.close(end)


def prepare(channel: Channel) -> None:
    """Do the part of a start that needs no model."""
    # Imported here, as its threads inherit this thread's priority.
    importlib.import_module("numpy")
    failures: list[Exception] = []
    # Readable as soon as the thread closes the other end.
    finished, end = os.pipe()
    arguments = (channel, end, failures)
    thread = threading.Thread(target=import_ahead, args=arguments, daemon=True)
    thread.start()
    channel.wait(finished)
    restore_priority()
    thread.join()
    os.close(finished)
    if failures:
        raise failures[0]
    if not channel.has_input:
        warm_up()


def warm_up() -> None:
    """Load and run a tiny model, so that the libraries do their deferred work."""
    directory = tempfile.mkdtemp(dir=".")
    try:
        write_checkpoint(Path(directory))
        generate(directory)
    finally:
        shutil.rmtree(directory)
    # Imported code stays for ever. The garbage collector would otherwise look through it several
    # times while a tokenizer is loaded, which takes a fifth of the start of a small model.
    gc.collect()
    gc.freeze()


def working_set() -> "dict[str, int]":
    """Return {"working_set": bytes that Metal recommends to keep resident}; {} without Metal."""
    # Some versions of MLX lack the function; the service then applies its own rule.
    with contextlib.suppress(Exception):
        import mlx.core as mx  # noqa: PLC0415

        if mx.metal.is_available():
            device_info = getattr(mx, "device_info", None) or mx.metal.device_info
            return {"working_set": int(device_info()["max_recommended_working_set_size"])}
    return {}


def generate(directory: str) -> None:
    """Load the model in a directory and generate two tokens, then free its memory."""
    import mlx.core as mx  # noqa: PLC0415
    import mlx_lm  # noqa: PLC0415

    model, tokenizer = mlx_lm.load(directory)[:2]
    mlx_lm.generate(model, tokenizer, "a", max_tokens=2)
    del model
    mx.clear_cache()
    mx.reset_peak_memory()


def write_checkpoint(directory: Path) -> None:
    """Write a Llama with one layer of zeros and a tokenizer of two letters."""
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


def notify_when_ready(channel: Channel) -> None:
    """Patch uvicorn to send {"ready": true} when the server listens."""
    import uvicorn  # noqa: PLC0415

    startup = uvicorn.Server.startup

    async def startup_and_notify(self: Any, *arguments: Any, **named: Any) -> None:  # noqa: ANN401
        await startup(self, *arguments, **named)
        # In older versions of uvicorn startup() also returns after a failed load.
        if self.started:
            channel.send(ready=True)
        channel.close()

    uvicorn.Server.startup = startup_and_notify  # type: ignore[method-assign]


def redirect_output(log: int) -> None:
    """Make a descriptor the standard output and error, and close it."""
    sys.stdout.flush()
    sys.stderr.flush()
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)


def take_channel() -> Channel:
    """Return the channel of the standard input, which is empty from then on."""
    # The copy is not inherited by descendants.
    channel = Channel(socket.socket(fileno=os.dup(0)))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return channel


def stand_by(channel: Channel) -> "tuple[dict[str, Any], int] | None":
    """Prepare, unless the arguments are there already; return them, as receive_arguments."""
    channel.send(stamps=stamps())
    if not channel.has_input:
        prepare(channel)
        channel.send(warm=True, **working_set())
    return channel.receive_arguments()


def main() -> None:
    # The files beside this one are no part of the runtime.
    sys.path.insert(0, str(Path(__file__).parent))
    server_child: Any = importlib.import_module("server_child")
    kept_prompts: Any = importlib.import_module("kept_prompts")
    server_key: Any = importlib.import_module("server_key")
    tokenizer_ahead: Any = importlib.import_module("tokenizer_ahead")
    confine: Any = importlib.import_module("confinement.confine")
    del sys.path[0]
    # Before there is a second thread, which would stay free.
    confined = confine.confine_as_sent(os.environ)
    usual = server_child.collect_garbage_rarely()
    channel = take_channel()
    received = stand_by(channel)
    if received is None:
        return
    message, log = received
    sys.argv = server_key.with_key(message["argv"], message.get("key", ""))
    os.environ.update(message.get("variables", {}))
    redirect_output(log)
    if confined is not None:
        confined.narrow(message["sandbox"])
    channel.send(taken=True)
    server_child.restrict(sys.argv, os.environ)
    server_child.fix_address(confined, sys.argv)
    server_child.patch_startup(usual)
    kept_prompts.keep_prompts(sys.argv, os.environ)
    notify_when_ready(channel)
    tokenizer_ahead.load_tokenizers_ahead(sys.argv)
    cli = importlib.import_module("vllm_mlx.cli")
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
