"""The type of the system prompts that a server computes before it is READY."""

from typing import Annotated

from pydantic import AfterValidator, Field

from pool_service.config.types import Flaw, Form

MAX_WARM_PROMPTS = 8
MAX_WARM_PROMPTS_BYTES = 256 * 1024
"""The bytes of all warm prompts of a model: computing so many takes minutes, and the server is not
READY before."""


def _warm_prompts(prompts: tuple[str, ...]) -> tuple[str, ...]:
    if len(prompts) > MAX_WARM_PROMPTS:
        raise Flaw(f"has {len(prompts)} prompts, and at most {MAX_WARM_PROMPTS} are computed")
    if not all(prompt.strip() for prompt in prompts):
        raise Flaw("has a prompt without text")
    size = sum(len(prompt.encode(errors="surrogatepass")) for prompt in prompts)
    if size > MAX_WARM_PROMPTS_BYTES:
        most = f"{MAX_WARM_PROMPTS_BYTES // 1024} KiB"
        raise Flaw(f"has {-(-size // 1024)} KiB of text, and at most {most} are computed")
    if len(set(prompts)) < len(prompts):
        raise Flaw("has the same prompt more than once")
    return prompts


WarmPrompts = Annotated[
    tuple[Annotated[str, Field(strict=True)], ...],
    AfterValidator(_warm_prompts),
    Form("list of texts", 'a list of texts, such as ["You are a pirate."]'),
]
