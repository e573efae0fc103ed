"""Facts about `vllm-mlx serve`: its options, its variables, and the diagnoses of its exits.

Facts are of vllm-mlx 0.6.0; the options exist since 0.3.0. Verified by
tests/whole/test_vllm_mlx_contract.py.
"""

import json
import re
import signal as signals
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pool_service.adapters.children import kept_prompts, server_key
from pool_service.adapters.runtime.descriptions.vllm_mlx_counts import counts_of
from pool_service.adapters.runtime.diagnosis import PORT_TAKEN, describe_exit, quote
from pool_service.core.activity import UseSignals
from pool_service.core.types import Diagnosis

PROGRAM = "vllm-mlx"
DISTRIBUTION = "vllm-mlx"
COMPUTING_DISTRIBUTIONS = ("mlx", "mlx-lm", "mlx-vlm")
"""The packages that decide, besides vllm-mlx itself, what is computed from a prompt."""
MINIMUM_VERSION = (0, 3, 0)
GENERATING_DISTRIBUTION = "mlx-lm"
MINIMUM_GENERATING_VERSION = (0, 31, 1)
"""With mlx-lm 0.31.0, which vllm-mlx 0.3.0 allows by its metadata, servers without BATCHING are
READY and answer every chat with 500 (seen with 0.3.0, 0.4.1 and 0.6.0); with 0.31.1 they answer."""

# The program takes a free port itself; its listening socket shows which.
ANY_PORT = "0"

HOST_OPTION = "--host"
SERVED_MODEL_NAME = "--served-model-name"
AUTO_UNLOAD = "--auto-unload-idle-seconds"
OPTIONS = (
    # Set always, so that no default of the program decides who reaches the server.
    (HOST_OPTION, "{host}"),
    # With the default of three retries it takes ten seconds to refuse a missing model.
    ("--download-retries", "1"),
    # Over 31 years: never unloads, but makes /health report active_requests and last_used_at.
    (AUTO_UNLOAD, "1000000000"),
)
# The metrics count the requests that /health does not: responses, embeddings, audio, rerank.
METRICS = "--enable-metrics"
_POSTS = '{method="POST"}'
# Options that vllm-mlx refuses or silently drops beside --auto-unload-idle-seconds, or that change
# its meaning.
NOT_WITH_AUTO_UNLOAD = (
    "--mllm-draft-model",
    "--trust-remote-code",
    "--gpu-memory-utilization",
    "--models-config",
)
BATCHING = kept_prompts.BATCHING
CACHE_MEMORY = "--cache-memory-mb"
"""The option that bounds the memory of computed prompts."""
CACHE_MEMORY_SHARE = "--cache-memory-percent"
"""The option that bounds it by a share of the free memory; without effect beside CACHE_MEMORY."""
KV_QUANTIZATION = "--kv-cache-quantization"
WARM_PROMPTS = "--warm-prompts"
"""The option that names a file of prompts to compute before the server listens. The default engine
computes them, and uses none of it."""
WARM_PROMPTS_FILE = "warm-prompts.json"
"""The file that WARM_PROMPTS names, in the working directory of the process."""
NOT_WITH_PROMPT_CACHE = frozenset(
    {"--disable-prefix-cache", "--no-memory-aware-cache", "--use-paged-cache"}
)
"""Options with which vllm-mlx does not keep its prompts in the cache that it writes to disk."""
NOT_WITH_ADDED_BATCHING = frozenset(
    {"--mllm-draft-model", "--enable-mtp", "--specprefill", "--prefix-trie-cache"}
)
"""Options of the default engine, beside which the pool does not choose the other one."""
EMBEDDING_MODEL = "--embedding-model"
"""The option that names a model for embeddings. Requests for them must name it by the same text,
whatever the served name is; any other name gets 400."""
RERANK_MODEL = "--rerank-model"
MODEL_OPTIONS = (
    *(EMBEDDING_MODEL, RERANK_MODEL, "--specprefill-draft-model", "--mllm-draft-model"),
)
"""Options that each name a further model to load."""
TOOLS = "--mcp-config"
TOOLS_VARIABLE = "VLLM_MLX_MCP_CONFIG"
"""The option and the variable that name a file of programs to run as tools for the model."""
TRUST = "--trust-remote-code"
API_KEY = server_key.OPTION
"""The option with the key of a server; `children/` gives it, so that no process table shows it."""
# Without it, a second concurrent request is answered with 503 (since 0.4.0).
ENVIRONMENT = (("VLLM_MLX_SIMPLE_ENGINE_LOCK_ADMISSION", "wait"),)
# Further host names by which a server may be called; read by `server_child.py`.
ALLOWED_HOSTS = "POOL_SERVICE_ALLOWED_HOSTS"
# Downloads precede a start: a start must not download unnoticed, nor send requests to the Hub.
OFFLINE = (("HF_HUB_OFFLINE", "1"),)


def warm_prompts_file(prompts: Sequence[str]) -> str:
    """Return the content of WARM_PROMPTS_FILE: the messages of one conversation for each prompt."""
    return json.dumps([[{"role": "system", "content": prompt}] for prompt in prompts])


def use_signals(version: tuple[int, ...] | None, *, with_metrics: bool) -> UseSignals:
    """Return the use signals of a vllm-mlx. version: None if not known."""
    if not with_metrics:
        return UseSignals()
    return UseSignals(
        path="/metrics",
        gauges=(f"vllm_mlx_http_requests_in_flight{_POSTS}",),
        counters=(f"vllm_mlx_http_requests_total{_POSTS}",),
        counts_all=counts_of(version).metrics_are_complete,
    )


@dataclass(frozen=True, slots=True)
class _Rule:
    """One cause of exits: the pattern of its output, and the explanation.

    words: a format string for the groups of the pattern.
    """

    pattern: str
    diagnosis: Diagnosis
    words: str


_ENVIRONMENT_RULES = (
    _Rule(PORT_TAKEN.pattern, Diagnosis.PORT_TAKEN, "its port was taken by another program"),
    _Rule(
        r"No space left on device",
        Diagnosis.CRASHED,
        "the disk is full; free some space",
    ),
    _Rule(
        r"Too many open files",
        Diagnosis.CRASHED,
        "too few file descriptors are allowed; raise the limit (ulimit -n)",
    ),
    _Rule(
        r"can't start new thread|Resource temporarily unavailable",
        Diagnosis.CRASHED,
        "no more processes and threads are allowed; raise the service's limit (ulimit -u, "
        "TasksMax, pids.max)",
    ),
    _Rule(
        # mlx-lm sets the limits 2048 (soft) and 4096 (hard) when it is imported.
        r"not allowed to raise maximum limit",
        Diagnosis.RUNTIME_UNUSABLE,
        "it needs a hard limit of 4096 open files or more (ulimit -Hn)",
    ),
    _Rule(
        r"Insufficient Memory|OutOfMemory|Unable to allocate|bad_alloc|MemoryError"
        r"|maximum allowed buffer size",
        Diagnosis.OUT_OF_MEMORY,
        "memory ran out",
    ),
    _Rule(
        r"^Error: (--.*)",
        Diagnosis.RUNTIME_UNUSABLE,
        "it refuses its options",
    ),
    _Rule(
        r"^vllm-mlx(?: serve)?: error: ",
        Diagnosis.RUNTIME_UNUSABLE,
        "it does not know an option or argument",
    ),
    _Rule(
        r"import string to enable 'reload'",
        Diagnosis.RUNTIME_UNUSABLE,
        "WEB_CONCURRENCY is set for it; remove it from the configured environment",
    ),
    _Rule(
        r"ConfinementError: (.*)",
        Diagnosis.RUNTIME_UNUSABLE,
        "it cannot be confined (sandbox in the runtime's section)",
    ),
    _Rule(
        r"^ModuleNotFoundError: |^ImportError: dlopen|Library not loaded",
        Diagnosis.RUNTIME_UNUSABLE,
        "its installation is incomplete; install the runtime again",
    ),
)
_DOWNLOAD_RULES = (
    _Rule(
        r"Last error: .*(?:Server error '5\d\d|timed out|Timeout)",
        Diagnosis.CRASHED,
        "the download from the model hub failed; try again",
    ),
    _Rule(
        r"Repository Not Found|Revision Not Found",
        Diagnosis.MODEL_REJECTED,
        "the model hub has no such model",
    ),
    _Rule(
        r"gated repo|401 Unauthorized|403 Forbidden|Access to model .* is restricted",
        Diagnosis.MODEL_REJECTED,
        "the model hub demands a token that may read it; set HF_TOKEN for the service",
    ),
    _Rule(
        r"Repo id must be in the form|Repo id must use alphanumeric",
        Diagnosis.MODEL_REJECTED,
        "it is neither a directory that exists nor an id of the form owner/name",
    ),
    _Rule(
        r"not found in local cache|offline mode is enabled",
        Diagnosis.MODEL_REJECTED,
        "it is not on this machine, and the runtime is told to stay offline",
    ),
    _Rule(
        r"Failed to download",
        Diagnosis.MODEL_REJECTED,
        "it is not on this machine, and the model hub could not be reached",
    ),
)
_MODEL_RULES = (
    _Rule(
        r"Model type (\S+) not supported",
        Diagnosis.MODEL_REJECTED,
        "architecture '{}' is not supported",
    ),
    _Rule(
        r"Cannot determine whether .* is a multimodal model|config\.json'?$",
        Diagnosis.MODEL_REJECTED,
        "its config.json is missing or cannot be read",
    ),
    _Rule(r"KeyError: 'model_type'", Diagnosis.MODEL_REJECTED, "its config.json has no model_type"),
    _Rule(
        r"No safetensors found",
        Diagnosis.MODEL_REJECTED,
        "it has no weights (no safetensors file)",
    ),
    _Rule(
        r"\[load_safetensors\]|SafetensorError|\[read\] Unable to read \d+ bytes",
        Diagnosis.MODEL_REJECTED,
        "its weights are damaged or incomplete; download them again",
    ),
    _Rule(
        r"Missing \d+ parameters|Received \d+ parameters not in model|Expected shape"
        r"|^[\w.]+\.(?:weight|bias|scales|biases)\.$",
        Diagnosis.MODEL_REJECTED,
        "its weights do not fit its config.json",
    ),
    _Rule(
        r"backend tokenizer|sentencepiece or tiktoken|^[\w.]*Error: .*tokenizer",
        Diagnosis.MODEL_REJECTED,
        "its tokenizer is missing or cannot be read",
    ),
    _Rule(
        r"trust_remote_code",
        Diagnosis.MODEL_REJECTED,
        "it needs code of its own, which is not trusted",
    ),
    _Rule(
        r"^ImportError: .*requires? ",
        Diagnosis.MODEL_REJECTED,
        "it needs a package that the runtime has not got",
    ),
    _Rule(
        r"^(?:ValueError|KeyError|TypeError|AttributeError|IndexError|AssertionError"
        r"|NotImplementedError|FileNotFoundError|NotADirectoryError|\S*DecodeError): ",
        Diagnosis.MODEL_REJECTED,
        "loading it failed",
    ),
)
_SUBJECTS = {
    Diagnosis.MODEL_REJECTED: "vllm-mlx could not load the model",
    Diagnosis.RUNTIME_UNUSABLE: "vllm-mlx cannot run",
    Diagnosis.PORT_TAKEN: "vllm-mlx could not listen",
    Diagnosis.CRASHED: "vllm-mlx died",
    Diagnosis.OUT_OF_MEMORY: "vllm-mlx died",
}
_FRAMES = {
    EMBEDDING_MODEL: re.compile(r"vllm_mlx/embedding\.py"),
    RERANK_MODEL: re.compile(r"vllm_mlx/rerank\w*\.py"),
    TOOLS: re.compile(r"vllm_mlx/mcp/|, in init_mcp$"),
}
"""The frames of a traceback in which what an option names is loaded, and not the model."""
_EXCEPTION = re.compile(r"^(?:[\w.]*(?:Error|Exception|Interrupt)|Error|vllm-mlx.*: error): \S")
# Lines after this one are about requests, and do not explain a failed load.
_LISTENING = "Uvicorn running on"
# Exit codes of causes that the last lines explain: 1 and 2 are vllm-mlx's, 3 is uvicorn's.
_EXPLAINED_CODES = (1, 2, 3)
_EXTERNAL_SIGNALS = (signals.SIGHUP, signals.SIGINT, signals.SIGTERM, signals.SIGKILL)


def diagnose(
    code: int | None, signal: int | None, last_lines: Sequence[str]
) -> tuple[Diagnosis, str]:
    """Explain the exit of a `vllm-mlx serve`; a `diagnosis.Diagnose`."""
    # A missing tokenizer was seen to end in SIGABRT.
    if code in _EXPLAINED_CODES or signal == signals.SIGABRT:
        found = _match(last_lines)
        if found:
            return found
    words = describe_exit(code, signal)
    if signal == signals.SIGKILL:
        words += ", perhaps by the system for want of memory"
    # After a signal from outside, an error in the log is that of some earlier request.
    evidence = "" if code == 0 or signal in _EXTERNAL_SIGNALS else _evidence(last_lines)
    return Diagnosis.CRASHED, f"vllm-mlx {words}{f' ({evidence})' if evidence else ''}."


def _match(last_lines: Sequence[str]) -> tuple[Diagnosis, str] | None:
    rules: tuple[_Rule, ...] = _ENVIRONMENT_RULES
    if not any(_LISTENING in line for line in last_lines):
        rules = (*rules, *_DOWNLOAD_RULES, *_MODEL_RULES)
    # The frames of a traceback are indented: names of files and code, not the cause.
    telling = [line for line in reversed(last_lines) if not line.startswith((" ", "INFO:"))]
    for rule in rules:
        for line in telling:
            match = re.search(rule.pattern, line, re.IGNORECASE)
            if match:
                return _explained(rule, match, last_lines)
    return None


def _explained(
    rule: _Rule, match: re.Match[str], last_lines: Sequence[str]
) -> tuple[Diagnosis, str]:
    """Return the diagnosis and its words; what an option names is no fault of the model."""
    option = _option_at_fault(last_lines)
    if rule.diagnosis is not Diagnosis.MODEL_REJECTED or not option:
        return rule.diagnosis, _sentence(rule, match, last_lines)
    of_option = replace(
        rule,
        diagnosis=Diagnosis.RUNTIME_UNUSABLE,
        words=f"what {option} names cannot be loaded: {rule.words}",
    )
    return of_option.diagnosis, _sentence(of_option, match, last_lines)


def _option_at_fault(last_lines: Sequence[str]) -> str:
    """Return the option whose file or model was being loaded; empty if it was the model itself."""
    frames = [line.rstrip() for line in last_lines if line.startswith("  File ")]
    found = (name for name, frame in _FRAMES.items() if any(map(frame.search, frames)))
    return next(found, "")


def _sentence(rule: _Rule, match: re.Match[str], last_lines: Sequence[str]) -> str:
    evidence = _evidence(last_lines) or quote(match.string)
    return f"{_SUBJECTS[rule.diagnosis]}: {rule.words.format(*match.groups())} ({evidence})."


def _evidence(last_lines: Sequence[str]) -> str:
    """Return the last line that names an exception or an error; "" if none does."""
    return quote(next((line for line in reversed(last_lines) if _EXCEPTION.match(line)), ""))
