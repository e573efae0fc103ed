"""Answers the prompts on its input, a line each, whatever dies meanwhile: python engine.py MODEL.

Needs the `openai` package. An answer that breaks off is lost; a request that found no server has
been asked again before that, and waited for the next one.
"""

import sys

from openai import APIConnectionError

from pool_service_client import Hold, PoolClient


def answer(hold: Hold, prompt: str) -> str:
    """Return the whole answer; raise EOFError or APIConnectionError if it broke off."""
    text, reason = "", None
    with hold.openai(max_retries=10) as openai:
        for chunk in openai.chat.completions.create(
            model=hold.ready().served_model_name,
            messages=[{"role": "user", "content": prompt}],
            stream=True,
        ):
            text += chunk.choices[0].delta.content or ""
            reason = chunk.choices[0].finish_reason or reason
    if reason is None:
        raise EOFError
    return text


with PoolClient.connect_or_start() as pool, pool.hold(sys.argv[1]) as hold:
    for prompt in sys.stdin:
        try:
            print("done", answer(hold, prompt), flush=True)
        except (APIConnectionError, EOFError) as error:
            print("lost", error, flush=True)
