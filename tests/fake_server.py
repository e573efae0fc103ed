#!/usr/bin/env python3
"""A stand-in for `vllm-mlx serve MODEL ...` that starts at once and misbehaves on demand.

    python -S -E tests/fake_server.py serve 'fake/x?load=0.5&health=500' --port 8000

It takes the real one's options (by their exact names) and answers as it does: /health, /metrics,
/v1/models, /v1/chat/completions (and /v1/responses as if it were that, which /health does not
count), 404 for another model, 401 without its key (--api-key), the drain on SIGTERM;
tests/whole/test_fake_is_like_the_real_one.py holds it to that. How it misbehaves is said in the
model's name behind a "?", as name=value joined by "&" ("+" is a space), for each model apart.
Like other runtimes it takes its key from variables, too: FAKE_API_KEY, or FAKE_API_KEY_FILE.

load=S            loads for S seconds before it binds; load_until=PATH: until that file appears;
                  load_by=reading: it reads some MB a second meanwhile; computing: it computes
die=CODE          exits with CODE instead of binding; say=TEXT goes to stderr before
exit_after=S      exits by itself with code 0, S seconds after it is up
exit_when=PATH    exits by itself with code 0 when that file is there after it is up
bind=never        never binds; silent: binds, accepts, and never answers
health=500        /health: status 500; also junk (no JSON), unhealthy (200, and says so),
                  unloaded (200, model_loaded false), redirect (to itself), endless (a body),
                  interim (an endless run of them), mute (none, but a line in the log twice a
                  second); sick_when=PATH: only once that file is there
cuts_when=PATH    shuts all its connections down each time that file appears, and removes it
closes_when=PATH  closes its listener once that file is there, and lives on
ignore=term       ignores SIGTERM from the start; term,int: SIGINT as well
cuts=1            at SIGTERM ends at once, whatever it works on
child=group       forks a grandchild that waits for ever, in its group; setsid: in a session
                  of its own; bare: in its group, a program with an empty environment that holds
                   neither the log nor the working directory
child_port=1      it keeps the listening socket (unless it is bare); child_ignore=term: ignores that
tell=PATH         when it is up writes its port and its grandchild's pid into that FIFO
log=N             writes N bytes of lines to stderr when it is up; plain=1: any GET gets 200, `ok`
works=S           before each answer it computes for S seconds, and answers nothing else meanwhile
tokens=N          how many tokens an answer has by default (5); delay=S: seconds before each;
                  answers_until=PATH: it has more, until that file is there
rss=MB            takes so much memory while it loads; grow=MB: so much more with each answer
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time

# Importing typing would take a fifth of the time that it needs to start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO, NoReturn

    Json = dict[str, Any]

TAKE_A_VALUE = """
    models-config memory-budget-gb served-model-name host port max-num-seqs prefill-batch-size
    completion-batch-size mllm-prefill-step-size prefix-cache-size cache-memory-mb
    cache-memory-percent kv-cache-quantization-bits kv-cache-quantization-group-size
    kv-cache-min-quantize-tokens ssd-cache-dir ssd-cache-max-gb warm-prompts stream-interval
    max-kv-size max-tokens max-request-tokens gpu-memory-utilization paged-cache-block-size
    max-cache-blocks chunked-prefill-tokens mtp-num-draft-tokens prefill-step-size
    specprefill-threshold specprefill-keep-pct specprefill-backbone-pct specprefill-draft-model
    prefix-trie-cache-size prefix-trie-cache-memory-mb mllm-draft-model mllm-draft-kind
    mllm-draft-block-size mcp-config api-key rate-limit timeout auto-unload-idle-seconds
    max-audio-upload-mb max-tts-input-chars tool-call-parser reasoning-parser
    default-temperature default-top-p default-thinking-token-budget default-chat-template-kwargs
    default-top-k default-min-p default-presence-penalty default-repetition-penalty
    embedding-model embedding-max-length embedding-overflow-policy rerank-model
    download-timeout download-retries"""
STAND_ALONE = """
    enable-prefix-cache disable-prefix-cache no-memory-aware-cache kv-cache-quantization
    continuous-batching use-paged-cache enable-mtp mtp-optimistic specprefill prefix-trie-cache
    default-mllm-draft enable-metrics lazy-load-model enable-auto-tool-choice mllm
    trust-remote-code offline"""


NEEDS_KEY = ("/v1/models", "/v1/chat/completions", "/v1/responses", "/v1/embeddings")


def say(text: str) -> None:
    os.write(2, (text + "\n").encode())


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("vllm-mlx")
    serve = parser.add_subparsers(dest="command", required=True).add_parser("serve")
    serve.add_argument("model")
    for name in TAKE_A_VALUE.split():
        serve.add_argument(f"--{name}")
    for name in STAND_ALONE.split():
        serve.add_argument(f"--{name}", action="store_true")
    return parser.parse_args(arguments)


def parse_flags(model: str) -> dict[str, str]:
    words = model.partition("?")[2].split("&")
    pairs = (word.replace("+", " ").partition("=") for word in words if word)
    return {name: value for name, _, value in pairs}


def socket_for_uvicorn() -> socket.socket:
    """Return the socket that the launcher has bound, out of its patches of uvicorn."""
    import uvicorn  # noqa: PLC0415  # it takes long, and most servers are not confined

    patches = [uvicorn.Server.startup]
    for patch in patches:
        for cell in getattr(patch, "__closure__", None) or ():
            if isinstance(cell.cell_contents, socket.socket):
                return cell.cell_contents
            patches.append(cell.cell_contents)
    raise LookupError("the launcher has bound no address")


class Server:
    """Everything after the arguments; one thread for each connection."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.flags = parse_flags(options.model)
        self.model = options.served_model_name or options.model
        self.address = (options.host or "127.0.0.1", int(options.port or 8000))
        self.unload_seconds = float(options.auto_unload_idle_seconds or 0)
        admission = os.environ.get("VLLM_MLX_SIMPLE_ENGINE_LOCK_ADMISSION")
        self.queues = admission == "wait" or options.continuous_batching
        self.loaded_at = self.last_used_at = time.time()
        self.active = 0
        self.metrics = options.enable_metrics
        self.posts: dict[str, list[int]] = {}
        self.engine = threading.Lock()
        self.embedding_model = options.embedding_model
        self.key = options.api_key or os.environ.get("FAKE_API_KEY")
        if "FAKE_API_KEY_FILE" in os.environ:
            with open(os.environ["FAKE_API_KEY_FILE"]) as file:  # noqa: PTH123  # as above
                self.key = file.read()
        self.at_work = 0
        self.changed = threading.Condition()
        self.stop_signals: list[int] = []
        self.wake_reader, self.wake_writer = os.pipe()
        self.memory: list[bytes] = []
        self.connections: set[socket.socket] = set()

    def run(self) -> None:
        self.ignore(self.flags.get("ignore", ""))
        self.load()
        if self.flags.get("bind") == "never":
            wait_for_ever()
        listener = self.bind()
        child_pid = self.start_child(listener)
        self.catch_signals()
        host, port = listener.getsockname()[:2]
        say(f"INFO:     Uvicorn running on http://{host}:{port} (Press CTRL+C to quit)")
        self.write_log()
        if "tell" in self.flags:
            reader = os.open(self.flags["tell"], os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(reader, f"{port} {child_pid}\n".encode())
            os.close(reader)
        # As a closed descriptor alone would not: the wait for it is over, too.
        self.when("closes_when", lambda: listener.shutdown(2))
        if "cuts_when" in self.flags:
            threading.Thread(target=self.cut_again_and_again, daemon=True).start()
        if "exit_after" in self.flags:
            threading.Timer(float(self.flags["exit_after"]), os._exit, (0,)).start()
        self.when("exit_when", lambda: os._exit(0))
        self.accept_until_signalled(listener)
        self.drain(listener)

    def ignore(self, names: str) -> None:
        for name in filter(None, names.split(",")):
            signal.signal(getattr(signal, "SIG" + name.upper()), signal.SIG_IGN)

    def take(self, megabytes: str) -> None:
        # Written, so that it is really there.
        self.memory.append(b"x" * int(float(megabytes) * 1_000_000))

    def load(self) -> None:
        self.take(self.flags.get("rss", "0"))
        self.spend(float(self.flags.get("load", "0")))
        while "load_until" in self.flags and not self.is_there("load_until"):
            time.sleep(0.002)
        if "die" in self.flags:
            say(self.flags.get("say", "RuntimeError: told to die"))
            sys.exit(int(self.flags["die"]))

    def spend(self, seconds: float) -> None:
        """Let the time of a load pass, by reading a file or computing if that is said."""
        until, way = time.monotonic() + seconds, self.flags.get("load_by", "")
        while way and time.monotonic() < until:
            if way == "reading":
                with open("/dev/zero", "rb") as file:  # noqa: PTH123  # pathlib takes long to import
                    file.read(2**20)
                time.sleep(0.2)
        time.sleep(max(until - time.monotonic(), 0.0))

    def when(self, flag: str, then: Callable[[], None]) -> None:
        """Do that once the file is there that the flag names; never without the flag."""

        def wait() -> None:
            while not self.is_there(flag):
                time.sleep(0.002)
            then()

        if flag in self.flags:
            threading.Thread(target=wait, daemon=True).start()

    def cut_again_and_again(self) -> NoReturn:
        while True:
            if self.is_there("cuts_when"):
                os.unlink(self.flags["cuts_when"])  # noqa: PTH108  # pathlib takes long to import
                for connection in list(self.connections):
                    with contextlib.suppress(OSError):
                        connection.shutdown(2)
            time.sleep(0.002)

    def is_there(self, flag: str) -> bool:
        return os.access(self.flags[flag], os.F_OK)

    def bind(self) -> socket.socket:
        try:
            is_v6 = ":" in self.address[0]
            listener = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET)
        except PermissionError:
            # Confined: the launcher has bound the address, for uvicorn.
            listener = socket_for_uvicorn()
            listener.listen(128)
            return listener
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(self.address)
        except OSError as error:
            told = f"error while attempting to bind on address {self.address}"
            say(f"ERROR:    [Errno {error.errno}] {told}: {os.strerror(error.errno or 0).lower()}")
            sys.exit(3)
        listener.listen(128)
        return listener

    def start_child(self, listener: socket.socket) -> int:
        """The pid of the grandchild that was asked for; 0: none was."""
        if "child" not in self.flags:
            return 0
        up, told = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(up)
            self.be_the_child(listener, self.flags["child"], told)
        os.close(told)
        # It is closed, by an exec too, when the grandchild is what it was asked to be.
        os.read(up, 1)
        os.close(up)
        return pid

    def be_the_child(self, listener: socket.socket, kind: str, told: int) -> NoReturn:
        self.ignore(self.flags.get("child_ignore", ""))
        if kind == "setsid":
            os.setsid()
        if "child_port" not in self.flags:
            listener.close()
        if kind == "bare":
            os.chdir("/")
            for descriptor in range(3):
                os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
            os.execve("/bin/sleep", ["sleep", "1000000"], {})
        os.close(told)
        wait_for_ever()

    def catch_signals(self) -> None:
        # Through a pipe: a handler that runs just before a wait begins does not end it.
        os.set_blocking(self.wake_writer, False)
        signal.set_wakeup_fd(self.wake_writer)
        for number in (signal.SIGTERM, signal.SIGINT):
            if number == signal.SIGTERM and "cuts" in self.flags:
                signal.signal(number, signal.SIG_DFL)
            elif signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, frame: None)

    def take_signal(self) -> None:
        self.stop_signals += os.read(self.wake_reader, 1)

    def write_log(self) -> None:
        left = int(self.flags.get("log", "0"))
        line = b"INFO:     a line of the log that is there to be long\n"
        while left > 0:
            block = line * (min(left, 65536) // len(line) + 1)
            left -= os.write(2, block)

    def drain(self, listener: socket.socket) -> None:
        """As uvicorn does: no new connection, and those at work may finish."""
        say("INFO:     Shutting down")
        listener.close()
        if self.at_work:
            say("INFO:     Waiting for connections to close. (CTRL+C to force quit)")
        threading.Thread(target=self.await_force, daemon=True).start()
        with self.changed:
            self.changed.wait_for(lambda: self.forced() or not self.at_work)
        if signal.SIGTERM in self.stop_signals:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)

    def forced(self) -> bool:
        return signal.SIGINT in self.stop_signals[1:]

    def await_force(self) -> None:
        while not self.forced():
            self.take_signal()
        with self.changed:
            self.changed.notify_all()

    # Its requests

    def accept_until_signalled(self, listener: socket.socket) -> None:
        both = [listener.fileno(), self.wake_reader]
        while self.wake_reader not in select.select(both, [], [])[0]:
            try:
                connection, _ = listener.accept()
            except OSError:
                # It was closed; what is at work goes on until a signal.
                listener.close()
                select.select([self.wake_reader], [], [])
                break
            # As asyncio does: what is small goes at once.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()
        self.take_signal()

    def serve(self, connection: socket.socket) -> None:
        self.connections.add(connection)
        with connection, contextlib.suppress(OSError):
            self.answer_all(connection)
        self.connections.discard(connection)

    def work(self, change: int) -> None:
        with self.changed:
            self.at_work += change
            self.changed.notify_all()

    def answer_all(self, connection: socket.socket) -> None:
        if self.flags.get("bind") == "silent":
            wait_for_ever()
        with connection.makefile("rb") as incoming:
            while request := read_request(incoming):
                self.work(1)
                try:
                    self.answer(connection, *request)
                finally:
                    self.work(-1)
                if self.stop_signals:
                    return

    def answer(
        self, connection: socket.socket, method: str, path: str, shown: str, body: bytes
    ) -> None:
        if self.flags.get("plain") and method == "GET":
            send(connection, 200, b"ok", "text/plain")
        elif path == "/health":
            self.health(connection)
        elif self.key and path in NEEDS_KEY and shown != f"Bearer {self.key}":
            why = "Invalid API key" if shown.startswith("Bearer ") else "API key required"
            send_json(connection, 401, {"detail": why})
        elif path == "/v1/models":
            entry = {"id": self.model, "object": "model", "owned_by": "vllm-mlx"}
            send_json(connection, 200, {"object": "list", "data": [entry]})
        elif path == "/metrics" and self.metrics:
            send(connection, 200, self.metrics_text().encode(), "text/plain; version=0.0.4")
        elif path in ("/v1/chat/completions", "/v1/responses") and method == "POST":
            self.post(connection, path, body)
        elif path == "/v1/embeddings" and method == "POST":
            self.embed(connection, body)
        else:
            send_json(connection, 404, {"detail": "Not Found"})

    def health(self, connection: socket.socket) -> None:
        kind = self.flags.get("health", "")
        if "sick_when" in self.flags and not self.is_there("sick_when"):
            kind = ""
        with self.engine if "works" in self.flags else contextlib.nullcontext():
            pass
        if kind == "junk":
            send(connection, 200, b"\xff\x00 no JSON {", "application/json")
        elif kind in ("mute", "interim", "endless"):
            self.never_end(connection, kind)
        elif kind == "redirect":
            send(connection, 307, b"", "text/plain", "location: /health\r\n")
        else:
            status = int(kind) if kind.isdigit() else 200
            send_json(connection, status, self.health_body(kind))

    def never_end(self, connection: socket.socket, kind: str) -> None:
        if kind == "endless":
            send_head(connection, 200, "application/json", "")
        parts = {"endless": b" " * 4096, "interim": b"HTTP/1.1 100 Continue\r\n\r\n" * 200}
        while not self.stop_signals:
            if kind == "mute":
                say("INFO:     still here")
                time.sleep(0.5)
            else:
                connection.sendall(parts[kind])

    def health_body(self, kind: str) -> Json:
        body: Json = {
            "status": "unhealthy" if kind == "unhealthy" else "healthy",
            "model_loaded": kind != "unloaded",
            "model_name": self.model,
            "available_models": [self.model],
            "model_type": "llm",
            "engine_type": "simple",
            "mcp": None,
        }
        if self.unload_seconds:
            body |= {
                "residency_state": "loaded",
                "active_requests": self.active,
                "last_used_at": self.last_used_at,
                "loaded_at": self.loaded_at,
                "auto_unload_idle_seconds": self.unload_seconds,
            }
        return body

    def metrics_text(self) -> str:
        """Of requests what the real one tells, with its names."""
        name, series = "vllm_mlx_http_requests", sorted(self.posts.items())
        labels = 'method="POST",path='
        lines = [f"# TYPE {name}_total counter"]
        lines += [
            f'{name}_total{{{labels}"{path}",status_code="200"}} {ended}.0'
            for path, (_, ended) in series
        ]
        lines += [f"# TYPE {name}_in_flight gauge"]
        lines += [f'{name}_in_flight{{method="GET",path="/health"}} 1.0']
        lines += [f'{name}_in_flight{{{labels}"{path}"}} {now}.0' for path, (now, _) in series]
        return "\n".join(lines) + "\n"

    def embed(self, connection: socket.socket, body: bytes) -> None:
        """Answer for the embedding model by its exact name, as the real one does."""
        asked = json.loads(body)["model"]
        if not self.embedding_model or asked != self.embedding_model:
            send_json(connection, 400, {"detail": f"Embedding model '{asked}' is not available."})
            return
        data = [{"object": "embedding", "index": 0, "embedding": [0.0, 1.0]}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        answer = {"object": "list", "data": data, "model": asked, "usage": usage}
        send_json(connection, 200, answer)

    def post(self, connection: socket.socket, path: str, body: bytes) -> None:
        """As the real one does: all are counted by the metrics, a chat by /health as well."""
        counts = self.posts.setdefault(path, [0, 0])
        with self.changed:
            counts[0] += 1
        try:
            self.chat(connection, body, counted=path == "/v1/chat/completions")
        finally:
            with self.changed:
                counts[0] -= 1
                counts[1] += 1

    def chat(self, connection: socket.socket, body: bytes, *, counted: bool) -> None:
        asked = json.loads(body)
        if "input" in asked:
            asked["messages"] = asked.pop("input")
        if "messages" not in asked:
            missing = {"type": "missing", "loc": ["body", "messages"], "msg": "Field required"}
            send_json(connection, 422, {"detail": [missing]})
        elif asked["model"] != self.model:
            detail = f"The model `{asked['model']}` does not exist."
            send_json(connection, 404, {"detail": f"{detail} Available model: `{self.model}`"})
        else:
            self.use_engine(connection, asked, counted=counted)

    def use_engine(
        self, connection: socket.socket, asked: dict[str, Any], *, counted: bool
    ) -> None:
        self.count(int(counted))
        try:
            if not self.engine.acquire(blocking=self.queues):
                send_json(connection, 503, {"detail": "Engine is busy"})
                return
            try:
                self.complete(connection, asked)
            finally:
                self.engine.release()
        finally:
            self.count(-int(counted))

    def count(self, change: int) -> None:
        with self.changed:
            if change:
                self.active += change
                self.last_used_at = time.time()

    def complete(self, connection: socket.socket, asked: dict[str, Any]) -> None:
        self.take(self.flags.get("grow", "0"))
        tokens = int(asked.get("max_tokens") or self.flags.get("tokens", "5"))
        kind = "chat.completion.chunk" if asked.get("stream") else "chat.completion"
        head: Json = {"id": "chatcmpl-fa4e", "object": kind, "model": self.model}
        head["created"] = int(time.time())
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
        if asked.get("stream"):
            self.stream(connection, head, tokens, usage)
            return
        words = "".join(self.generate(tokens))
        message = {"role": "assistant", "content": words}
        choice = {"index": 0, "message": message, "finish_reason": "length"}
        send_json(connection, 200, head | {"choices": [choice], "usage": usage})

    def generate(self, tokens: int) -> Iterator[str]:
        until = time.monotonic() + float(self.flags.get("works", "0"))
        while time.monotonic() < until:
            pass
        has_end = "answers_until" in self.flags
        delay = float(self.flags.get("delay", "0.01" if has_end else "0"))
        number = 0
        while number < tokens or (has_end and not self.is_there("answers_until")):
            time.sleep(delay)
            yield f"t{number} "
            number += 1

    def stream(self, connection: socket.socket, head: Json, tokens: int, usage: Json) -> None:
        chunked = "Transfer-Encoding: chunked\r\n"
        send_head(connection, 200, "text/event-stream; charset=utf-8", chunked)

        def event(delta: Json, finish_reason: str | None = None, usage: Json | None = None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
            send_chunk(connection, json.dumps(head | {"choices": [choice], "usage": usage}))

        event({"role": "assistant"})
        for word in self.generate(tokens):
            event({"content": word})
        event({}, "length", usage)
        send_chunk(connection, "[DONE]")
        connection.sendall(b"0\r\n\r\n")


def read_request(incoming: BinaryIO) -> tuple[str, str, str, bytes] | None:
    """Method, path, authorization and body; None at the end of the connection."""
    words = incoming.readline(65536).decode("latin-1").split()
    if len(words) != 3:
        return None
    length, shown = 0, ""
    while line := incoming.readline(65536).strip():
        name, _, value = line.decode("latin-1").partition(":")
        if name.lower() == "content-length":
            length = int(value)
        if name.lower() == "authorization":
            shown = value.strip()
    return words[0], words[1].partition("?")[0], shown, incoming.read(length)


def send_head(connection: socket.socket, status: int, content_type: str, more: str) -> None:
    head = f"HTTP/1.1 {status} Status\r\nserver: uvicorn\r\n"
    connection.sendall(f"{head}content-type: {content_type}\r\n{more}\r\n".encode())


def send(
    connection: socket.socket, status: int, body: bytes, content_type: str, more: str = ""
) -> None:
    send_head(connection, status, content_type, f"content-length: {len(body)}\r\n{more}")
    connection.sendall(body)


def send_json(connection: socket.socket, status: int, value: Json) -> None:
    send(connection, status, json.dumps(value).encode(), "application/json")


def send_chunk(connection: socket.socket, data: str) -> None:
    event = f"data: {data}\n\n".encode()
    connection.sendall(b"%x\r\n%s\r\n" % (len(event), event))


def wait_for_ever() -> NoReturn:
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    # As Python's own default, a KeyboardInterrupt, but without its traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    Server(parse_arguments(sys.argv[1:])).run()
