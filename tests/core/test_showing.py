import json

import pytest

from herdgate.showing import LIMIT, ShowRedaction, without_paths


def shown(**fields: object) -> dict[str, object]:
    redaction = ShowRedaction()
    data = json.dumps(fields).encode()
    passed = redaction.feed(data[:10]) + redaction.feed(data[10:])
    return dict(json.loads(passed + redaction.finish()))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("FROM /usr/share/ollama/.ollama/models/blobs/sha256-ab", "FROM …/sha256-ab"),
        ("from /x.gguf", "from …/x.gguf"),
        (r"FROM C:\Users\me\.ollama\models\blobs\sha256-ab", "FROM …/sha256-ab"),
        ("FROM D:/models/x.gguf", "FROM …/x.gguf"),
        ('FROM "/a folder/x.gguf"', 'FROM "…/x.gguf"'),
        ("# FROM /home/me/x", "# FROM …/x"),
        ("ADAPTER /home/me/lora.bin", "ADAPTER …/lora.bin"),
        ("FROM llama3.2:latest", "FROM llama3.2:latest"),
        ("# FROM hf.co/org/repo:Q4", "# FROM hf.co/org/repo:Q4"),
        ("PARAMETER stop /stop/here", "PARAMETER stop /stop/here"),
    ],
)
def test_a_modelfile_names_no_directories(line: str, expected: str) -> None:
    text = f"# Modelfile\n{line}\nTEMPLATE x/y\n"
    assert shown(modelfile=text)["modelfile"] == f"# Modelfile\n{expected}\nTEMPLATE x/y\n"


@pytest.mark.parametrize(
    "blanks", ["\n" * 100_000, " " * 100_000, "\t#\t" * 30_000, "FROM" + " " * 100_000, "/" * 100_000]
)
def test_a_modelfile_of_blanks_takes_no_longer_than_any_other(blanks: str) -> None:
    text = f"{blanks}\nFROM /home/me/x\n{blanks}"
    assert shown(modelfile=text)["modelfile"] == f"{blanks}\nFROM …/x\n{blanks}"


def test_every_spelling_of_the_field_counts() -> None:
    assert shown(ModelFile="FROM /a/b") == {"ModelFile": "FROM …/b"}


def test_everything_else_stays_as_it_was() -> None:
    fields = {"license": "see /usr/share/x", "model_info": {"a": [1.50, None]}, "details": {"parent_model": "m:latest"}}
    assert shown(**fields, modelfile="x") == {**fields, "modelfile": "x"}


def test_a_parent_model_that_is_a_file_is_left_out() -> None:
    assert shown(details={"parent_model": "/root/x.gguf", "format": "gguf"})["details"] == {
        "parent_model": "",
        "format": "gguf",
    }
    assert without_paths(None) is None


@pytest.mark.parametrize("reply", [b"", b"[]", b"no JSON", b'{"modelfile":5}'])
def test_what_is_no_such_reply_is_not_passed_on(reply: bytes) -> None:
    redaction = ShowRedaction()
    assert redaction.feed(reply) == b""
    with pytest.raises(ValueError):  # noqa: PT011 - msgspec's own texts
        redaction.finish()


def test_a_reply_beyond_the_limit_is_not_passed_on() -> None:
    redaction = ShowRedaction()
    redaction.feed(b" " * LIMIT)
    with pytest.raises(ValueError, match="more than"):
        redaction.feed(b" ")
