"""Programs that answer like runtimes that are not installed, on the paths that the pool uses.

The answers are those of the programs' sources: tools/server of llama.cpp (build 11434),
vllm/entrypoints and vllm/v1/metrics of vLLM, app/api/endpoints.py of mlx-openai-server (1.8.1), and
llama_cpp/server of llama-cpp-python (0.3.36). A program takes the options that these have, and no
others, and does at SIGTERM what these do.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, Final

ROOT: Final = Path(__file__).resolve().parents[2]
KEEP_ALIVE_S: Final = 5
"""After which each of them closes a connection without requests."""

LOAD_S: Final = 0.3
TOKEN_S: Final = 0.001
JSON: Final = "application/json; charset=utf-8"
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


def write_program(directory: Path, name: str) -> Path:
    """Write a program that becomes the fake of this name."""
    path = directory / name
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.whole.fake_programs import main\nmain()\n"
    )
    path.chmod(0o755)
    return path


@dataclass
class State:
    """What a program knows of itself: its requests, and what it was told."""

    told: argparse.Namespace
    key: str = ""
    loaded: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: int = 0
    tokens: int = 0

    def begin(self) -> None:
        with self.lock:
            self.running += 1
            self.tokens += 5

    def end(self, tokens: int) -> None:
        with self.lock:
            self.running -= 1
            self.tokens += tokens


class Handler(BaseHTTPRequestHandler):
    """Answers like one of the programs, which are its subclasses."""

    protocol_version = "HTTP/1.1"
    timeout = KEEP_ALIVE_S
    LOADS_FIRST: ClassVar = True
    """Whether it listens only once its model is loaded."""
    DRAINS: ClassVar = False
    KEY_VARIABLE: ClassVar = ""

    @property
    def state(self) -> State:
        assert isinstance(self.server, Server)
        return self.server.state

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    @staticmethod
    def parser() -> argparse.ArgumentParser:
        raise NotImplementedError

    def page(self) -> tuple[int, str, str] | None:
        """Return status, type and content of what a GET of the path gets; None: not found."""
        raise NotImplementedError

    def refused(self) -> tuple[int, str, str] | None:
        """Return what a request gets that is not let in; None: it is."""
        return None

    @property
    def bearer(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def do_GET(self) -> None:
        self.say(*(self.refused() or self.page() or (404, JSON, '{"detail":"Not Found"}')))

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        asked = json.loads(self.rfile.read(length))
        refused = self.refused()
        if refused:
            self.say(*refused)
            return
        tokens = int(asked.get("max_tokens") or 16)
        self.state.begin()
        try:
            if asked.get("stream"):
                self.stream(tokens)
            else:
                time.sleep(tokens * TOKEN_S)
                self.say(200, JSON, json.dumps({"choices": [{"text": "x" * tokens}]}))
        finally:
            self.state.end(tokens)

    def stream(self, tokens: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(tokens):
            self.chunk('data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n')
            time.sleep(TOKEN_S)
        self.chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def chunk(self, text: str) -> None:
        self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())

    def say(self, status: int, kind: str, content: str) -> None:
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content.encode())))
        self.end_headers()
        self.wfile.write(content.encode())


class LlamaServer(Handler):
    LOADS_FIRST = False
    KEY_VARIABLE = "LLAMA_API_KEY"
    COUNTERS: ClassVar = {
        "prompt_tokens_total": "Number of prompt tokens processed, excluding cached tokens",
        "prompt_tokens_cached_total": "Number of prompt tokens reused from the cache",
        "prompt_seconds_total": "Total time spent processing prompts",
        "tokens_predicted_total": "Number of generation tokens processed",
        "tokens_predicted_seconds_total": "Total time spent generating tokens",
        "n_decode_total": (
            "Total number of llama_decode() calls, excluding speculative decoding and multimodal "
            "decoding"
        ),
        "n_tokens_max": "Largest observed sequence length (prompt + generation)",
        "spec_decode_num_draft_tokens_total": "Speculative: Total draft tokens generated",
        "spec_decode_num_accepted_tokens_total": (
            "Speculative: Total draft tokens accepted by the target model"
        ),
        "spec_decode_num_drafts_total": (
            "Speculative: Total speculative decoding verification steps"
        ),
    }
    GAUGES: ClassVar = {
        "prompt_tokens_seconds": "Average prompt throughput in tokens/s",
        "predicted_tokens_seconds": "Average generation throughput in tokens/s",
        "requests_processing": "Number of requests processing",
        "requests_deferred": "Number of requests deferred",
        "n_busy_slots_per_decode": "Average number of busy slots per llama_decode() call",
    }
    SLOTS: ClassVar = 4

    @staticmethod
    def parser() -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(allow_abbrev=False)
        for names in (("-m", "--model"), ("--host",), ("--port",), ("-a", "--alias")):
            parser.add_argument(*names)
        parser.add_argument("--metrics", action="store_true")
        return parser

    def error(self, code: int, kind: str, message: str) -> tuple[int, str, str]:
        content = {"error": {"message": message, "type": kind, "code": code}}
        return code, JSON, json.dumps(content, separators=(",", ":"))

    def refused(self) -> tuple[int, str, str] | None:
        if not self.state.loaded.is_set():
            return self.error(503, "unavailable_error", "Loading model")
        public = self.path in {"/health", "/v1/health"}
        if self.state.key and not public and self.bearer != self.state.key:
            return self.error(401, "authentication_error", "Invalid API Key")
        return None

    def page(self) -> tuple[int, str, str] | None:
        if self.path == "/health":
            return 200, JSON, '{"status":"ok"}'
        if self.path != "/metrics":
            return self.error(404, "not_found_error", "File Not Found")
        if not self.state.told.metrics:
            # Errors of a path have their members by name.
            return (
                501,
                JSON,
                (
                    '{"error":{"code":501,"message":"This server does not support metrics '
                    'endpoint. Start it with `--metrics`","type":"not_supported_error"}}'
                ),
            )
        return 200, "text/plain; version=0.0.4", self.metrics()

    def metrics(self) -> str:
        running, tokens = self.state.running, self.state.tokens
        known = {
            "prompt_tokens_total": tokens,
            "tokens_predicted_total": tokens,
            "requests_processing": min(running, self.SLOTS),
            "requests_deferred": max(running - self.SLOTS, 0),
        }
        return "".join(
            f"# HELP llamacpp:{name} {about}\n# TYPE llamacpp:{name} {kind}\n"
            f"llamacpp:{name} {known.get(name, 0)}\n"
            for kind, metrics in (("counter", self.COUNTERS), ("gauge", self.GAUGES))
            for name, about in metrics.items()
        )


class Vllm(Handler):
    KEY_VARIABLE = "VLLM_API_KEY"
    METRICS: ClassVar = (
        ("gauge", "num_requests_running", "Number of requests in model execution batches."),
        ("gauge", "num_requests_waiting", "Number of requests waiting to be processed."),
        ("counter", "prompt_tokens_total", "Number of prefill tokens processed."),
        ("counter", "generation_tokens_total", "Number of generation tokens processed."),
    )

    @staticmethod
    def parser() -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(allow_abbrev=False)
        parser.add_argument("serve", choices=["serve"])
        parser.add_argument("model_tag")
        parser.add_argument("--host")
        parser.add_argument("--port")
        # So it would take a model that stands behind it for another name.
        parser.add_argument("--served-model-name", nargs="+")
        return parser

    def refused(self) -> tuple[int, str, str] | None:
        if self.state.key and self.path.startswith("/v1") and self.bearer != self.state.key:
            return 401, JSON, '{"error":"Unauthorized"}'
        return None

    def page(self) -> tuple[int, str, str] | None:
        if self.path == "/health":
            return 200, "", ""
        if self.path != "/metrics":
            return None
        labels = f'{{engine="0",model_name="{self.state.told.served_model_name[0]}"}}'
        numbers = (self.state.running, 0, self.state.tokens, self.state.tokens)
        lines = (
            f"# HELP vllm:{name} {about}\n# TYPE vllm:{name} {kind}\n"
            f"vllm:{name}{labels} {float(number)}\n"
            for (kind, name, about), number in zip(self.METRICS, numbers, strict=True)
        )
        return 200, TEXT, "".join(lines)


class MlxOpenAI(Handler):
    DRAINS = True

    @staticmethod
    def parser() -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(allow_abbrev=False)
        parser.add_argument("launch", choices=["launch"])
        for name in ("--model-path", "--model-type", "--host", "--port"):
            parser.add_argument(name)
        parser.add_argument("--no-log-file", action="store_true")
        return parser

    def page(self) -> tuple[int, str, str] | None:
        if self.path != "/health":
            return None
        health = {"status": "ok", "model_id": "m", "model_status": "initialized"}
        return 200, "application/json", json.dumps(health)


class LlamaCppPython(Handler):
    @staticmethod
    def parser() -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(allow_abbrev=False)
        parser.add_argument("-m", dest="module", choices=["llama_cpp.server"])
        for name in ("--model", "--model_alias", "--host", "--port", "--interrupt_requests"):
            parser.add_argument(name)
        return parser

    def page(self) -> tuple[int, str, str] | None:
        if self.path == "/docs":
            return 200, "text/html; charset=utf-8", "<!DOCTYPE html>\n<html></html>\n"
        return None


PROGRAMS: Final[dict[str, type[Handler]]] = {
    "llama-server": LlamaServer,
    "vllm": Vllm,
    "mlx-openai-server": MlxOpenAI,
    "python": LlamaCppPython,
}


class Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, state: State, kind: type[Handler]) -> None:
        self.state = state
        super().__init__((state.told.host, int(state.told.port)), kind)


def main() -> None:
    """Serve as the program of this name does, until SIGTERM."""
    kind = PROGRAMS[Path(sys.argv[0]).name]
    state = State(kind.parser().parse_args(), os.environ.get(kind.KEY_VARIABLE, ""))
    if kind.LOADS_FIRST:
        load(state)
    server = Server(state, kind)
    signal.signal(signal.SIGTERM, partial(stop, server, kind))
    if not kind.LOADS_FIRST:
        threading.Thread(target=load, args=[state], daemon=True).start()
    server.serve_forever(poll_interval=0.05)
    server.server_close()


def load(state: State) -> None:
    time.sleep(LOAD_S)
    state.loaded.set()


def stop(server: Server, kind: type[Handler], *_: object) -> None:
    """Finish the requests in flight, or cut them."""
    end: Callable[[], None] = server.shutdown if kind.DRAINS else partial(os._exit, 0)
    threading.Thread(target=end).start()
