"""Serves the APIs that programs use, for one model, to any number of callers.

    python server.py PORT DIRECTORY

An answer has as many words as are asked for, one each PACE_S; from ENDLESS_TOKENS on it goes on
until DIRECTORY has a file MODEL.end. Once a caller has gone away before the end, DIRECTORY has a
file MODEL.left.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from aiohttp import web

PACE_S: Final = 0.02
USUAL_TOKENS: Final = 5
ENDLESS_TOKENS: Final = 1000
MAX_BODY_BYTES: Final = 2**27
HEARD: Final = "heard"


def mark(model: str, kind: str) -> Path:
    return Path(sys.argv[2]) / f"{model.replace('/', '-')}.{kind}"


async def words(asked: dict[str, Any]) -> AsyncIterator[str]:
    """Yield an answer word by word."""
    limits = asked.get("max_tokens"), asked.get("max_completion_tokens"), USUAL_TOKENS
    wanted, said = next(int(limit) for limit in limits if limit), 0
    ends = mark(asked["model"], "end")
    while not ends.exists() if wanted >= ENDLESS_TOKENS else said < wanted:
        await asyncio.sleep(PACE_S)
        yield f"w{said} "
        said += 1


async def stream(
    request: web.Request, asked: dict[str, Any], events: AsyncIterator[str]
) -> web.StreamResponse:
    """Answer with events."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    try:
        async for event in events:
            await response.write(event.encode())
        await response.write_eof()
    except (ConnectionError, asyncio.CancelledError):
        mark(asked["model"], "left").touch()
        raise
    return response


def openai_event(model: str, **choice: object) -> str:
    one = {"index": 0, "delta": {}, "finish_reason": None} | choice
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": model}
    return f"data: {json.dumps(head | {'choices': [one]})}\n\n"


async def openai_events(asked: dict[str, Any]) -> AsyncIterator[str]:
    model = asked["model"]
    yield openai_event(model, delta={"role": "assistant", "content": ""})
    async for word in words(asked):
        yield openai_event(model, delta={"content": word})
    yield openai_event(model, finish_reason="stop")
    yield "data: [DONE]\n\n"


async def chat(request: web.Request) -> web.StreamResponse:
    asked = await request.json()
    if asked.get("stream"):
        return await stream(request, asked, openai_events(asked))
    text = "".join([word async for word in words(asked)])
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": asked["model"]}
    return web.json_response(head | {"choices": [choice], "usage": usage})


def anthropic_event(kind: str, **more: object) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | more)}\n\n"


def anthropic_message(asked: dict[str, Any], *content: object) -> dict[str, object]:
    return {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": asked["model"],
        "content": content,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


async def anthropic_events(asked: dict[str, Any]) -> AsyncIterator[str]:
    yield anthropic_event("message_start", message=anthropic_message(asked))
    block = {"type": "text", "text": ""}
    yield anthropic_event("content_block_start", index=0, content_block=block)
    async for word in words(asked):
        delta = {"type": "text_delta", "text": word}
        yield anthropic_event("content_block_delta", index=0, delta=delta)
    yield anthropic_event("content_block_stop", index=0)
    ends = {"stop_reason": "end_turn", "stop_sequence": None}
    yield anthropic_event("message_delta", delta=ends, usage={"output_tokens": 1})
    yield anthropic_event("message_stop")


async def messages(request: web.Request) -> web.StreamResponse:
    asked = await request.json()
    if asked.get("stream"):
        return await stream(request, asked, anthropic_events(asked))
    text = "".join([word async for word in words(asked)])
    return web.json_response(anthropic_message(asked, {"type": "text", "text": text}))


async def speech(_request: web.Request) -> web.Response:
    return web.Response(body=b"RIFF a sound", content_type="audio/wav")


async def transcription(request: web.Request) -> web.Response:
    form = await request.post()
    file = form["file"]
    assert isinstance(file, web.FileField)
    assert file.file.read() == b"RIFF a sound"
    return web.json_response({"text": HEARD})


async def healthy(_request: web.Request) -> web.Response:
    return web.Response(text="ok")


def main() -> None:
    """Serve until a signal."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_post("/v1/messages", messages)
    app.router.add_post("/v1/audio/speech", speech)
    app.router.add_post("/v1/audio/transcriptions", transcription)
    app.router.add_get("/{path:.*}", healthy)
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        handler_cancellation=True,
        # Or it waits for callers that keep their connections.
        shutdown_timeout=0.0,
        print=None,
    )


if __name__ == "__main__":
    main()
