"""The log: complete, one record per line, and never a secret."""

import io
import json
import logging
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from herdgate import logs
from herdgate.config import Settings, load

SECRETS = {
    "admin": "an-admin-key-of-32-characters-00",
    "token": "backend-token-1",
    "header": 'quoted "header" secret',
    "redis": "p@ss/word",
    "plugin": "plugin-secret-1",
}


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    logging.captureWarnings(False)


def settings(place: Path, **environ: str) -> Settings:
    backends = [
        {
            "name": "a",
            "base_url": "http://a",
            "auth_token": SECRETS["token"],
            "headers": {"X-Own": SECRETS["header"]},
        }
    ]
    (place / "plugins.toml").write_text(
        '[[plugin]]\nuse = "x"\nlimit = 4\n[plugin.nested]\napi_keys = ["plugin-secret-1"]\nnote = "in clear"\n'
    )
    given = {
        "OLLAMA_BACKENDS": json.dumps(backends),
        "HERDGATE_ADMIN_KEY": SECRETS["admin"],
        "HERDGATE_STATE": "redis://:p%40ss%2Fword@redis:6379/0",
        **environ,
    }
    return load({}, given, place)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_holds_what_was_passed_along(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(settings(tmp_path), stream)

    logging.getLogger("herdgate.access").info(
        "%s done", "it", extra={"model": "llama3.2:latest", "seconds": 0.25, "backend": None, "level": "mine"}
    )

    (record,) = records(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("time"))
    assert record.pop("pid") > 0
    assert record == {
        "level": "info",
        "logger": "herdgate.access",
        "message": "it done",
        "model": "llama3.2:latest",
        "seconds": 0.25,
    }


def test_text_is_for_terminals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    logs.configure(settings(tmp_path), stream)

    logging.getLogger("herdgate.access").warning("done", extra={"model": "m", "outcome": "went away", "caller": None})

    pattern = (
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \x1b\[33mWARNING\x1b\[0m access: done model=m outcome=\"went away\"\n"
    )
    assert re.fullmatch(pattern, stream.getvalue())


def test_no_colour_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    logs.configure(settings(tmp_path), stream)
    logging.getLogger("herdgate").error("red")
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_form_can_be_chosen(tmp_path: Path, form: str) -> None:
    stream = Terminal() if form == "json" else io.StringIO()
    logs.configure(settings(tmp_path, HERDGATE_LOG_FORMAT=form), stream)
    logging.getLogger("herdgate").info("hello")
    assert stream.getvalue().startswith("{") is (form == "json")


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("secret", SECRETS.values())
def test_no_secret_of_the_settings_gets_through(tmp_path: Path, form: str, secret: str) -> None:
    stream = io.StringIO()
    logs.configure(settings(tmp_path, HERDGATE_LOG_FORMAT=form), stream)
    log = logging.getLogger("herdgate")

    log.info("message with %s", secret)
    log.info("extra", extra={"detail": {"deep": [f"<{secret}>"]}, "plain": secret})
    try:
        raise ValueError(f"traceback with {secret}")
    except ValueError:
        log.exception("failed")

    said = stream.getvalue()
    assert secret not in said
    assert json.dumps(secret)[1:-1] not in said
    assert said.count("********") >= 4
    assert "message with" in said
    assert "ValueError" in said


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("key hg_0123456789abcdefghijABCDEFGHIJ0123456789abc was", "key ******** was"),
        ("Authorization: Bearer abc.def-ghi, then", "Authorization: Bearer ********, then"),
        ("cannot reach redis://user:pass@host:6379/0", "cannot reach redis://********@host:6379/0"),
        ("mail a@b.example, model hg_small, in clear, 4", "mail a@b.example, model hg_small, in clear, 4"),
    ],
)
def test_what_looks_like_a_secret_is_masked(tmp_path: Path, text: str, kept: str) -> None:
    stream = io.StringIO()
    logs.configure(settings(tmp_path), stream)
    logging.getLogger("herdgate").info("%s", text)
    assert records(stream)[0]["message"] == kept


def test_nothing_can_pass_for_another_line(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(settings(tmp_path, HERDGATE_LOG_FORMAT="text"), stream)

    logging.getLogger("herdgate").info("a\nb\x1b[2J\u2028", extra={"agent": "c\r\nd"})

    (line,) = stream.getvalue().splitlines()
    assert line.endswith("herdgate: a\\x0ab\\x1b[2J\\x2028 agent=c\\x0d\\x0ad")


def test_bytes_that_are_no_text_are_no_trouble(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(settings(tmp_path), stream)
    logging.getLogger("herdgate").info("caf\udce9")
    assert records(stream)[0]["message"] == "caf\udce9"


def test_levels(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(settings(tmp_path, HERDGATE_LOG_LEVEL="error"), stream)
    for name in ("herdgate", "httpx", "sanic.root", "some_plugin"):
        logging.getLogger(name).warning("not now")
        logging.getLogger(name).error("%s", name)
    assert [record["message"] for record in records(stream)] == ["herdgate", "httpx", "sanic.root", "some_plugin"]


def test_libraries_do_not_tell_what_is_no_news(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(settings(tmp_path, HERDGATE_LOG_LEVEL="debug"), stream)
    for name in ("httpx", "sanic.root", "asyncio"):
        logging.getLogger(name).info("every poll")
        logging.getLogger(name).warning("news")
    logging.getLogger("some_plugin").debug("a plugin's own")
    assert [record["message"] for record in records(stream)] == ["news", "news", "news", "a plugin's own"]


def test_faults_can_be_kept_out_for_a_while(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(settings(tmp_path), stream)
    faults = logging.getLogger("herdgate.plugins")
    with logs.faults_untold():
        faults.error("during the start")
    faults.error("later")
    assert [record["message"] for record in records(stream)] == ["later"]


HEAD = ["time", "level", "logger", "message", "pid"]


@pytest.mark.parametrize("message", ["done", 'says {"a":null}', "caf\udce9"])
def test_what_is_not_known_is_left_out_of_an_event_and_nothing_takes_the_place_of_its_head(message: str) -> None:
    fields = {"b": None, "pid": "mine", "level": None, "c": {"deep": None}, "seconds": math.nan, "a": 'x":null'}
    line = json.loads(logs.JsonLines(logs.Redactor([])).line(86_400.25, logging.INFO, "some", message, fields))
    assert list(line) == [*HEAD, "c", "seconds", "a"]
    assert line["time"] == "1970-01-02T00:00:00.250Z"
    assert (line["message"], line["pid"], line["level"]) == (message, os.getpid(), "info")
    assert (line["c"], line["a"]) == ({"deep": None}, 'x":null')


def test_the_time_of_a_line_is_its_own() -> None:
    form = logs.JsonLines(logs.Redactor([]))
    times = [json.loads(form.line(at, logging.INFO, "some", "", {}))["time"] for at in (9.0, 9.1249, 9.9999, 10.0)]
    assert [time.removeprefix("1970-01-01T00:00:") for time in times] == ["09.000Z", "09.124Z", "09.999Z", "10.000Z"]


def test_a_forked_process_says_its_own_id() -> None:
    program = """
import logging, os
from herdgate.logs import JsonLines, Redactor
def say(message):
    print(JsonLines(Redactor([])).line(0, logging.INFO, "some", message, {"is": os.getpid()}), flush=True)
say("parent")
if (child := os.fork()) == 0:
    say("child")
    os._exit(0)
os.waitpid(child, 0)
"""
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    said = [json.loads(line) for line in run.stdout.splitlines()]
    assert [line["message"] for line in said] == ["parent", "child"]
    assert [line["pid"] for line in said] == [line["is"] for line in said]
