"""Asks a model by a library for Python or by curl, as its standard input says.

    python program.py openai|anthropic|langchain|litellm|curl BASE_URL

Each line of the input is a question, in JSON:

    model       the model's name
    stream      whether the answer is to come in pieces
    tokens      how long the answer is to be
    characters  how long the question is; 5 by default
    image       the URL of an image that is a part of the question
    audio       true: have a text spoken, and the sound written down
    stop_after  after how many pieces to go away

It prints lines of JSON, too: `ready`, `piece` at the first piece of an answer, and at its end
`end` with the beginning of the text, or `error`.
"""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, Final, Protocol

Question = dict[str, Any]
LEAST_CHARACTERS: Final = 5


class Library(Protocol):
    """A library, and how it is used."""

    def pieces(self, question: Question) -> Generator[str, None, None]:
        """Yield the answer; closing it goes away."""

    def spoken(self, question: Question) -> str:
        """Have a text spoken, and return what is written down of it."""


def package(name: str) -> Any:  # noqa: ANN401 - none of them is a package of this project
    """Import the one library that is used."""
    return importlib.import_module(name)


def prompt(question: Question) -> str:
    return "x" * int(question.get("characters", LEAST_CHARACTERS))


def content(question: Question) -> Any:  # noqa: ANN401 - typed differently by each library
    if "image" not in question:
        return prompt(question)
    image = {"type": "image_url", "image_url": {"url": question["image"]}}
    return [{"type": "text", "text": prompt(question)}, image]


class OpenAI:
    def __init__(self, base_url: str) -> None:
        self._client = package("openai").OpenAI(base_url=f"{base_url}/v1", api_key="none")

    def pieces(self, question: Question) -> Generator[str, None, None]:
        answer = self._client.chat.completions.create(
            model=question["model"],
            max_tokens=question["tokens"],
            messages=[{"role": "user", "content": content(question)}],
            stream=question["stream"],
        )
        if not question["stream"]:
            yield answer.choices[0].message.content
            return
        with answer:
            for chunk in answer:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content

    def spoken(self, question: Question) -> str:
        model, audio = question["model"], self._client.audio
        sound = audio.speech.create(model=model, voice="a", input="hello").read()
        written = audio.transcriptions.create(model=model, file=("a.wav", sound))
        return str(written.text)


class Anthropic:
    def __init__(self, base_url: str) -> None:
        self._client = package("anthropic").Anthropic(base_url=base_url, api_key="none")

    def pieces(self, question: Question) -> Generator[str, None, None]:
        said: Any = prompt(question)
        if "image" in question:
            kind, _, data = question["image"].removeprefix("data:").partition(";base64,")
            source = {"type": "base64", "media_type": kind, "data": data}
            said = [{"type": "text", "text": said}, {"type": "image", "source": source}]
        request = {
            "model": question["model"],
            "max_tokens": question["tokens"],
            "messages": [{"role": "user", "content": said}],
        }
        if not question["stream"]:
            yield self._client.messages.create(**request).content[0].text
            return
        with self._client.messages.stream(**request) as answer:
            yield from answer.text_stream

    def spoken(self, question: Question) -> str:
        raise NotImplementedError


class LangChain:
    def __init__(self, base_url: str) -> None:
        self._base_url = f"{base_url}/v1"

    def pieces(self, question: Question) -> Generator[str, None, None]:
        model = package("langchain_openai").ChatOpenAI(
            model=question["model"],
            base_url=self._base_url,
            api_key="none",
            max_tokens=question["tokens"],
        )
        messages = [{"role": "user", "content": content(question)}]
        if not question["stream"]:
            yield model.invoke(messages).content
            return
        with closing(model.stream(messages)) as answer:
            for chunk in answer:
                if chunk.content:
                    yield chunk.content

    def spoken(self, question: Question) -> str:
        raise NotImplementedError


class LiteLLM:
    def __init__(self, base_url: str) -> None:
        self._where = {"api_base": f"{base_url}/v1", "api_key": "none"}

    def pieces(self, question: Question) -> Generator[str, None, None]:
        litellm = package("litellm")
        litellm.suppress_debug_info = True
        answer = litellm.completion(
            model=f"openai/{question['model']}",
            max_tokens=question["tokens"],
            messages=[{"role": "user", "content": content(question)}],
            stream=question["stream"],
            **self._where,
        )
        if not question["stream"]:
            yield answer.choices[0].message.content
            return
        try:
            for chunk in answer:
                if chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content
        finally:
            answer.completion_stream.close()

    def spoken(self, question: Question) -> str:
        litellm = package("litellm")
        model = f"openai/{question['model']}"
        sound = litellm.speech(model=model, voice="a", input="hello", **self._where).read()
        written = litellm.transcription(model=model, file=("a.wav", sound), **self._where)
        return str(written.text)


class Curl:
    """The program, which follows redirects as it is told to."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url

    def _command(self, path: str, *options: str) -> list[str]:
        fails = ("--silent", "--show-error", "--fail-with-body", "--location", "--no-buffer")
        return ["curl", *fails, f"{self._base_url}{path}", *options]

    def _asking(self, path: str, body: Question) -> "subprocess.Popen[str]":
        command = self._command(path, "--header", "Content-Type: application/json", "--data", "@-")
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert process.stdin is not None
        process.stdin.write(json.dumps(body))
        process.stdin.close()
        return process

    def pieces(self, question: Question) -> Generator[str, None, None]:
        body = {
            "model": question["model"],
            "max_tokens": question["tokens"],
            "messages": [{"role": "user", "content": content(question)}],
            "stream": question["stream"],
        }
        with self._asking("/v1/chat/completions", body) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    yield from self._text(line, is_stream=question["stream"])
                if process.wait():
                    assert process.stderr is not None
                    raise RuntimeError(process.stderr.read())
            finally:
                process.kill()

    def _text(self, line: str, *, is_stream: bool) -> Generator[str, None, None]:
        if is_stream:
            data = line.removeprefix("data: ").strip()
            if not line.startswith("data: ") or data == "[DONE]":
                return
            event = json.loads(data)
            if "error" in event:
                raise RuntimeError(event["error"]["message"])
            text = event["choices"][0]["delta"].get("content")
        else:
            text = json.loads(line)["choices"][0]["message"]["content"]
        if text:
            yield text

    def spoken(self, question: Question) -> str:
        body = {"model": question["model"], "voice": "a", "input": "hello"}
        with self._asking("/v1/audio/speech", body) as process:
            assert process.stdout is not None
            sound = process.stdout.read()
        form = ("--form", f"model={question['model']}", "--form", "file=@-;filename=a.wav")
        command = self._command("/v1/audio/transcriptions", *form)
        written = subprocess.run(command, input=sound, capture_output=True, text=True, check=True)
        return str(json.loads(written.stdout)["text"])


LIBRARIES: Final[dict[str, Callable[[str], Library]]] = {
    "openai": OpenAI,
    "anthropic": Anthropic,
    "langchain": LangChain,
    "litellm": LiteLLM,
    "curl": Curl,
}


def answered(library: Library, question: Question) -> str:
    """Ask a question; return the beginning of the answer."""
    if question.get("audio"):
        return library.spoken(question)
    text = ""
    with closing(library.pieces(question)) as pieces:
        for number, piece in enumerate(pieces, start=1):
            text += piece
            if number == 1:
                say(event="piece")
            if number == question.get("stop_after"):
                break
    return text[:100]


def say(**event: str) -> None:
    print(json.dumps(event), flush=True)


def main() -> None:
    """Answer questions until the end of the input."""
    name, base_url = sys.argv[1:]
    library = LIBRARIES[name](base_url)
    say(event="ready")
    for line in sys.stdin:
        try:
            say(event="end", text=answered(library, json.loads(line)))
        except Exception as error:  # noqa: BLE001 - told to the test
            say(event="error", text=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
