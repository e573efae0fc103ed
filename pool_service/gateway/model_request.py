"""Finds the model in the body of a request, and puts another name in its place."""

from dataclasses import dataclass
from email.message import Message

import msgspec
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError

MAX_MODEL_CHARACTERS = 1024
"""The longest name that is passed on; the service itself refuses it from half of that on."""


MAX_PARTS = 100
"""The most parts of a form: each takes some microseconds, in which nothing else goes on."""


class BodyFlaw(ValueError):
    """The body of a request cannot be read, or names no model.

    param: the field of the request that is wrong; None: no single one.
    """

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class _Fields(msgspec.Struct):
    """The two fields that the gateway reads; others are skipped, and no object is made of them."""

    model: str = ""
    stream: bool | None = False


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """Holds what a request asks for.

    Attributes:
        body: the body as it came.
        model: the model's name as the caller has it.
        is_streaming: whether the caller wants events while the answer is made.
        span: where in the body of a form the name stands; None: the body is JSON.
    """

    body: bytes
    model: str
    is_streaming: bool
    span: tuple[int, int] | None = None

    def with_model(self, name: str) -> bytes:
        """Return the body with the name of the model replaced."""
        if name == self.model:
            return self.body
        if self.span is not None:
            begin, end = self.span
            return self.body[:begin] + name.encode() + self.body[end:]
        fields = msgspec.json.decode(self.body, type=dict[str, msgspec.Raw])
        fields["model"] = msgspec.Raw(msgspec.json.encode(name))
        return msgspec.json.encode(fields)


def parse_request(content_type: str, body: bytes) -> ModelRequest:
    """Return what a request asks for. Raises BodyFlaw."""
    header = Message()
    header["content-type"] = content_type
    if header.get_content_type() == "multipart/form-data":
        found = _of_form(header, body)
    else:
        found = _of_json(body)
    if not found.model:
        raise BodyFlaw("the request names no model: set the field 'model'", "model")
    if len(found.model) > MAX_MODEL_CHARACTERS:
        message = f"the name of the model is longer than {MAX_MODEL_CHARACTERS} characters"
        raise BodyFlaw(message, "model")
    return found


def _of_json(body: bytes) -> ModelRequest:
    try:
        fields = msgspec.json.decode(body, type=_Fields)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BodyFlaw(f"the body is not the JSON of a request: {error}") from None
    return ModelRequest(body, fields.model, bool(fields.stream))


def _of_form(header: Message, body: bytes) -> ModelRequest:
    boundary = header.get_boundary()
    if not boundary:
        raise BodyFlaw("the form has no boundary in its content-type")
    spans = _Spans()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": spans.begin_part,
                "on_header_field": spans.header_name,
                "on_header_value": spans.header_value,
                "on_header_end": spans.end_header,
                "on_part_data": spans.data,
            },
        )
        parser.write(body)
        parser.finalize()
    except (FormParserError, UnicodeEncodeError) as error:
        raise BodyFlaw(f"the body is no form: {error}") from None
    fields = {name: body[begin:end] for name, (begin, end) in spans.found.items()}
    try:
        model = fields.get("model", b"").decode()
    except UnicodeDecodeError:
        raise BodyFlaw("the name of the model is not UTF-8", "model") from None
    streams = fields.get("stream", b"").strip().lower() in {b"true", b"1"}
    return ModelRequest(body, model, streams, spans.found.get("model"))


class _Spans:
    """Notes where in a form the values of its fields stand; files are left out.

    The methods are callbacks of a parser that gets the whole body at once.
    """

    def __init__(self) -> None:
        self.found: dict[str, tuple[int, int]] = {}
        self._header = b""
        self._value = b""
        self._name: str | None = None
        self._parts = 0

    def begin_part(self) -> None:
        self._name = None
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BodyFlaw(f"the form has more than {MAX_PARTS} parts")

    def header_name(self, data: bytes, begin: int, end: int) -> None:
        self._header += data[begin:end]

    def header_value(self, data: bytes, begin: int, end: int) -> None:
        self._value += data[begin:end]

    def end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            disposition = Message()
            disposition["content-disposition"] = self._value.decode("utf-8", "replace")
            name = disposition.get_param("name", header="content-disposition")
            is_file = disposition.get_param("filename", header="content-disposition") is not None
            self._name = name if isinstance(name, str) and not is_file else None
            if self._name in self.found:
                raise BodyFlaw(f"the form has two fields {self._name!r}", self._name)
        self._header = self._value = b""

    def data(self, _data: bytes, begin: int, end: int) -> None:
        if self._name is not None:
            first, _ = self.found.get(self._name, (begin, end))
            self.found[self._name] = first, end
