"""Claims about finding the model in a body, and putting another name in its place."""

import json

import pytest

from pool_service.gateway.model_request import (
    MAX_MODEL_CHARACTERS,
    MAX_PARTS,
    BodyFlaw,
    parse_request,
)

FORM = "multipart/form-data; boundary=xyz"


def form(*parts: tuple[str, bytes]) -> bytes:
    """A form. parts: what stands behind `form-data;`, and the value."""
    pieces = [
        b"--xyz\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + value + b"\r\n"
        for head, value in parts
    ]
    return b"".join(pieces) + b"--xyz--\r\n"


def test_another_name_changes_nothing_else_of_json() -> None:
    large = 12345678901234567890
    body = f'{{"temperature": 0.10, "messages": [{{"model": "b"}}], "model": "a", "seed": {large}}}'
    found = parse_request("application/json", body.encode())
    assert (found.model, found.is_streaming) == ("a", False)
    assert found.with_model("a") == body.encode()
    renamed = found.with_model('b"ü').decode()
    assert json.loads(renamed) == json.loads(body) | {"model": 'b"ü'}
    assert "0.10" in renamed
    assert str(large) in renamed


@pytest.mark.parametrize(
    ("stream", "expected"), [("true", True), ("false", False), ("null", False)]
)
def test_whether_a_stream_is_wanted(stream: str, *, expected: bool) -> None:
    body = f'{{"model": "a", "stream": {stream}}}'
    assert parse_request("", body.encode()).is_streaming is expected


def test_another_name_changes_nothing_else_of_a_form() -> None:
    sound = bytes(range(256)) * 9
    file = ('name="file"; filename="model"', sound)
    body = form(file, ('name="model"', b"whisper"), ('name="stream"', b"true"))
    found = parse_request(FORM, body)
    assert (found.model, found.is_streaming) == ("whisper", True)
    assert found.with_model("whisper") == body
    assert found.with_model("w") == form(file, ('name="model"', b"w"), ('name="stream"', b"true"))


def test_a_file_is_never_taken_for_the_name() -> None:
    body = form(('name="model"; filename="a"', b"not this"), ('name="model"', b"this"))
    assert parse_request(FORM, body).model == "this"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM, b""),
        (FORM, b"nothing like a form"),
        (FORM, form(('name="file"', b"x"))),
        (FORM, form(('name="model"', b"\xff"))),
        (FORM, form(('name="model"', b"a"), ('name="model"', b"b"))),
        (FORM, form(*[('name="x"; filename="y"', b"")] * (MAX_PARTS + 1))),
        ("multipart/form-data; boundary=€", form(('name="model"', b"a"))),
        (f"multipart/form-data; boundary={'x' * 300}", form(('name="model"', b"a"))),
        ("multipart/form-data", form(('name="model"', b"a"))),
        ("application/json", b'{"model": ""}'),
        ("application/json", json.dumps({"model": "x" * (MAX_MODEL_CHARACTERS + 1)}).encode()),
        ("application/json", b'{"model": "a"'),
        ("application/json", b"[" * 100_000),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_what_names_no_model_is_a_flaw(kind: str, body: bytes) -> None:
    with pytest.raises(BodyFlaw):
        parse_request(kind, body)
