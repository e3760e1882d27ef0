import pytest

from herdgate.body import BadBody
from herdgate.form import read_form

TYPE = "multipart/form-data; boundary=limit"
FILE = b'Content-Disposition: form-data; name="file"; filename="a b.wav"\r\nContent-Type: audio/wav'


def field(name: str) -> bytes:
    return f'Content-Disposition: form-data; name="{name}"'.encode()


def form(*parts: tuple[bytes, bytes]) -> bytes:
    return b"".join(b"--limit\r\n%b\r\n\r\n%b\r\n" % part for part in parts) + b"--limit--\r\n"


GOOD = form((field("model"), b"whisper"), (FILE, b"RIFF\r\n\r\n\x00\xff--limi"))


def test_fields_are_read_and_the_bytes_go_on_as_they_came() -> None:
    body = read_form(GOOD, TYPE)
    assert body.raw is GOOD
    assert body.text("model") == "whisper"
    assert set(body.fields) == {"model"}
    assert body.content_type == TYPE


@pytest.mark.parametrize(
    "declared",
    [
        'multipart/form-data; boundary="limit"',
        "Multipart/Form-Data;boundary=limit",
        " multipart/form-data; BOUNDARY=limit ",
    ],
)
def test_the_type_is_forwarded_in_one_spelling(declared: str) -> None:
    assert read_form(GOOD, declared).content_type == TYPE


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b'content-disposition:form-data;name="x"', "x"),
        (b'Content-Type: text/plain\r\nContent-Disposition: form-data; name="x"', "x"),
        (
            b'Content-Disposition: form-data; name="list[]"\r\nContent-Transfer-Encoding: 8bit\r\nContent-Length: 2',
            "list[]",
        ),
    ],
)
def test_what_client_libraries_write_is_understood(head: bytes, name: str) -> None:
    assert read_form(form((head, "ä".encode())), TYPE).text(name) == "ä"


def test_a_file_name_beyond_ascii_is_understood() -> None:
    head = b'Content-Disposition: form-data; name="file"; filename="t.wav"; filename*=UTF-8\'\'t%C3%B6n.wav'
    assert dict(read_form(form((head, b"x")), TYPE).fields) == {}


def test_lists_may_repeat_their_name() -> None:
    assert read_form(form((field("g[]"), b"word"), (field("g[]"), b"segment")), TYPE).text("g[]") == "segment"


@pytest.mark.parametrize("ending", [b"--limit--", b"--limit--\r\n"])
def test_an_empty_field_is_empty(ending: bytes) -> None:
    assert read_form(b"--limit\r\n%b\r\n\r\n\r\n%b" % (field("model"), ending), TYPE).text("model") == ""


@pytest.mark.parametrize(
    ("form", "kind"),
    [("json", "application/json"), ("text", "text/plain; charset=utf-8"), ("srt", "text/plain; charset=utf-8")],
)
def test_a_transcription_is_named_what_it_is(form: str, kind: str) -> None:
    asked = b"--limit\r\n%b\r\n\r\n%b\r\n--limit--" % (field("response_format"), form.encode())
    assert read_form(asked, TYPE).reply_type == kind


@pytest.mark.parametrize(
    "declared",
    [
        None,
        "",
        "application/json",
        "multipart/form-data",
        "multipart/mixed; boundary=limit",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=limit; boundary=other",
        "multipart/form-data; boundary=limit; charset=utf-8",
        "multipart/form-data; boundary=other, multipart/form-data; boundary=limit",
        'multipart/form-data; boundary="limit',
        "multipart/form-data; boundary*=utf-8''limit",
        "multipart/form-data; boundary=li(mit",
        f"multipart/form-data; boundary={'x' * 71}",
    ],
)
def test_another_type_is_refused(declared: str | None) -> None:
    with pytest.raises(BadBody, match="multipart/form-data"):
        read_form(GOOD, declared)


def disposition(text: bytes) -> bytes:
    return form((b"Content-Disposition: " + text, b"x"))


BAD = {
    "nothing": b"",
    "a preamble": b"hello\r\n" + GOOD,
    "an empty line first": b"\r\n" + GOOD,
    "an epilogue": GOOD + b"--limit\r\n",
    "junk at the end": GOOD + b"x",
    "no end": GOOD.removesuffix(b"--limit--\r\n"),
    "half an end": GOOD.removesuffix(b"-\r\n"),
    "bare line feeds": GOOD.replace(b"\r\n", b"\n"),
    "a bare line feed after the boundary": GOOD.replace(b"--limit\r\n", b"--limit\n", 1),
    "space after the boundary": GOOD.replace(b"--limit\r\n", b"--limit \r\n", 1),
    "a boundary behind a bare line feed": form((field("a"), b'\n--limit\n' + field("model") + b"\n\nother")),
    "the boundary as a part of a line": form((field("a"), b"x--limit")),
    "a longer boundary": form((field("a"), b"\r\n--limits\r\n")),
    "no content before the boundary": b"--limit\r\n" + field("model") + b"\r\n\r\n--limit--\r\n",
    "no header": b"--limit\r\n\r\nx\r\n--limit--\r\n",
    "a folded header": form((b"Content-Disposition: form-data;\r\n name=\"model\"", b"x")),
    "a space before the colon": form((b'Content-Disposition : form-data; name="model"', b"x")),
    "another header": form((field("model") + b"\r\nX-Model: y", b"x")),
    "two dispositions": form((field("model") + b"\r\n" + field("other"), b"x")),
    "an encoded part": form((field("model") + b"\r\nContent-Transfer-Encoding: quoted-printable", b"a=62")),
    "a long header": form((field("model") + b"\r\nContent-Type: " + b"x" * 2000, b"x")),
    "no name": disposition(b"form-data"),
    "an empty name": disposition(b'form-data; name=""'),
    "a bare name": disposition(b"form-data; name=model"),
    "an encoded name": disposition(b"form-data; name*=utf-8''model"),
    "two names": disposition(b'form-data; name="a"; name="model"'),
    "an escape in the name": disposition(b'form-data; name="mo\\del"'),
    "a percent in the name": disposition(b'form-data; name="mo%64el"'),
    "a quote in the file name": disposition(b'form-data; name="file"; filename="a\\"; name=\\"model"'),
    "an empty file name": disposition(b'form-data; name="model"; filename=""'),
    "the file name first": disposition(b'form-data; filename="x"; name="model"'),
    "another disposition": disposition(b'attachment; name="model"'),
    "a field twice": form((field("model"), b"a"), (field("model"), b"b")),
    "a field in two cases": form((field("model"), b"a"), (field("Model"), b"b")),
    "a field and a file of one name": form((field("file"), b"a"), (FILE, b"b")),
    "no UTF-8": form((field("model"), b"\xff")),
    "a long field": form((field("model"), b"x" * 70_000)),
    "many fields": form(*((field(f"f{number}"), b"x") for number in range(65))),
}  # fmt: skip


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_what_could_be_read_in_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(BadBody):
        read_form(body, TYPE)
