"""Loads the tokenizer of a model while its weights are read.

The runtime's interpreter runs this file, so it imports only the standard library and the runtime.

`mlx_lm.load` reads the weights, which threads of MLX do while Python waits, and only then loads
the tokenizer, which keeps one processor busy. Here a thread makes the second call ahead:
`mlx_lm.utils.load_tokenizer`, with the arguments with which `mlx_lm.load` will make it. When
`mlx_lm.load` does make it, it gets the result if its arguments are the same. In any other case,
such as an error, the thread's work is dropped, and the call is made as if there were no thread.

Verified by tests/whole/test_vllm_mlx_contract.py.
"""

import contextlib
import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

TRUST = "--trust-remote-code"

ABANDONED_TIMEOUT_S = 10.0
"""The longest wait for a tokenizer that is not needed, as the weights cannot be loaded.

A thread in the midst of its work could disturb the end of the process.
"""


class TokenizerLoad:
    """The load of one tokenizer, in a thread that starts at once.

    load_config, load_tokenizer: the functions of mlx_lm.
    tokenizer_config: options for the tokenizer, as `load_tokenizer` takes them.
    """

    def __init__(
        self,
        load_config: "Callable[..., Any]",
        load_tokenizer: "Callable[..., Any]",
        path: Path,
        tokenizer_config: Any,  # noqa: ANN401
    ) -> None:
        self._load_config = load_config
        self._load_tokenizer = load_tokenizer
        # The arguments of the call, without names and with names, and its result.
        self._arguments = (path, tokenizer_config)
        self._named: dict[str, Any] = {}
        self._tokenizer: Any = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # The call that this one anticipates will raise the same error.
        with contextlib.suppress(BaseException):
            config = self._load_config(self._arguments[0])
            self._named = {"eos_token_ids": config.get("eos_token_id", None)}
            self._tokenizer = self._load_tokenizer(*self._arguments, **self._named)

    def take(self, arguments: "tuple[Any, ...]", named: "dict[str, Any]") -> Any:  # noqa: ANN401
        """Return the result of a call of `load_tokenizer`; None if it has to be made.

        A result is returned once, so that no two callers share a tokenizer.
        """
        self._thread.join()
        if (arguments, named) != (self._arguments, self._named):
            return None
        tokenizer, self._tokenizer = self._tokenizer, None
        return tokenizer

    def abandon(self) -> None:
        """Wait until the thread has ended, up to ABANDONED_TIMEOUT_S."""
        self._thread.join(ABANDONED_TIMEOUT_S)


def load_tokenizers_ahead(argv: "list[str]") -> None:
    """Patch mlx_lm so that `mlx_lm.load` loads the tokenizer beside the weights.

    argv: the arguments of the server. A model whose code is trusted is loaded without the patch,
    as its code may rely on the order.
    """
    if TRUST in argv:
        return
    # If mlx_lm is missing or has other functions, the runtime reports that, or needs none of them.
    with contextlib.suppress(Exception):
        import mlx_lm  # noqa: PLC0415
        from mlx_lm import utils  # noqa: PLC0415

        patch(mlx_lm, utils)


def patch(mlx_lm: Any, utils: Any) -> None:  # noqa: ANN401
    """Replace `mlx_lm.load` and `mlx_lm.utils.load_tokenizer`. Raises AttributeError."""
    load, load_config, load_tokenizer = mlx_lm.load, utils.load_config, utils.load_tokenizer
    # `ahead`: the tokenizer of the load that this thread is in the midst of.
    present = threading.local()

    @functools.wraps(load)
    def load_both(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        # A model of the Hub has its directory only after the download.
        if len(arguments) != 1 or named.keys() - {"tokenizer_config"} or not is_local(arguments[0]):
            return load(*arguments, **named)
        options = named.get("tokenizer_config")
        present.ahead = TokenizerLoad(load_config, load_tokenizer, Path(arguments[0]), options)
        try:
            return load(*arguments, **named)
        finally:
            present.ahead.abandon()
            del present.ahead

    @functools.wraps(load_tokenizer)
    def take_or_load(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        ahead: TokenizerLoad | None = getattr(present, "ahead", None)
        taken = ahead.take(arguments, named) if ahead else None
        return load_tokenizer(*arguments, **named) if taken is None else taken

    mlx_lm.load, utils.load_tokenizer = load_both, take_or_load


def is_local(model: Any) -> bool:  # noqa: ANN401
    """Return whether a model is named by its directory."""
    return isinstance(model, (str, Path)) and Path(model).is_dir()
