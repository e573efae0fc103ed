"""Asks a model and prints its answer as it comes: python chat.py MODEL PROMPT.

Needs the `openai` package. The model is held meanwhile: it cannot be evicted under the
answer, and is started if it is not there.
"""

import sys

from openai import APIConnectionError

from pool_service_client import PoolClient, PoolError


def ask(model: str, prompt: str) -> None:
    """Print the answer, word by word."""
    with (
        PoolClient.connect() as pool,
        pool.hold(model, holder="chat.py") as hold,
        hold.openai() as openai,
    ):
        answer = openai.chat.completions.create(
            model=hold.ready(timeout=600).served_model_name,
            messages=[{"role": "user", "content": prompt}],
            stream=True,
        )
        reason = None
        for chunk in answer:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
            reason = chunk.choices[0].finish_reason or reason
        print("" if reason else " … the answer broke off")


if __name__ == "__main__":
    try:
        ask(*sys.argv[1:])
    except (PoolError, APIConnectionError) as error:
        sys.exit(f"{error}")
