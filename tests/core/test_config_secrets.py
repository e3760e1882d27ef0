"""No message and no repr of the settings holds a secret, however broken the rest is."""

import json
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from herdgate.config import ConfigError, describe, load

SECRET = "Zs3kr1tZ"

_SECRETS = st.sampled_from(
    [
        SECRET,
        f"Bearer {SECRET}",
        f"{SECRET} {SECRET}",
        f"{SECRET}\nX: y",
        f" {SECRET}",
        f"{SECRET}é",
        [SECRET],
        {"a": SECRET},
    ]
)
_URLS = st.sampled_from(
    [
        f"http://u:{SECRET}@h",
        f"http://{SECRET}@h:1/x",
        f"http://u:{SECRET}/@h",
        f"http://u:{SECRET}",
        f"http:/u:{SECRET}@h",
        f"http:u:{SECRET}",
        f"u:{SECRET}@h",
        f"http://h?k={SECRET}",
        f"http://h#{SECRET}",
        f"http://[{SECRET}@::1",
        f"ftp://u:{SECRET}@h",
        f"http://h\n{SECRET}@",
        f"//u:{SECRET}@h",
        [f"http://u:{SECRET}@h"],
        f"redis://u:{SECRET}@h:x/y",
        f"redis://:{SECRET}:6379",
        f"redis:/{SECRET}@h",
        f"redis://h/{SECRET}",
        f"redis://h?password={SECRET}",
        f"sqlite://:{SECRET}@h/x",
    ]
)
_OTHER = st.sampled_from([True, -1, 10**30, "", "x y", [], {}, 1.5, "a"])
_BACKENDS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["a", "A", "b"]) | _OTHER,
        "base_url": _URLS | st.just("http://h"),
        "auth_token": _SECRETS,
        "auth_tokn": _SECRETS,
        "headers": st.dictionaries(st.sampled_from(["X-A", "x-a", "Host", "X:", "authorization", ""]), _SECRETS)
        | _SECRETS,
        "enabled": _OTHER,
        "idle_timeout": _OTHER,
        "tags": _OTHER,
        "ca_file": _OTHER,
    },
)
_VARIABLES = st.fixed_dictionaries(
    {},
    optional={
        "HERDGATE_STATE": _URLS.filter(lambda value: isinstance(value, str)),
        "HERDGATE_ADMIN_KEY": st.sampled_from([SECRET, f"{SECRET} {SECRET}", f"Bearer {SECRET}"]),
        "HERDGATE_ADMIN_KEYS": st.just(SECRET),
        "HERDGATE_PORT": st.sampled_from(["1", "x"]),
        "OLLAMA_BASE_URL": _URLS.filter(lambda value: isinstance(value, str)),
        "OLLAMA_AUTH_TOKEN": st.sampled_from([SECRET, f"{SECRET} {SECRET}"]),
        "OLLAMA_BACKENDS": st.one_of(
            st.lists(_BACKENDS, max_size=3).map(json.dumps),
            st.lists(_BACKENDS, max_size=3).map(lambda value: json.dumps(value)[:-1]),
            _BACKENDS.map(json.dumps),
            _URLS.map(json.dumps),
            st.just(SECRET),
        ),
    },
)


def toml_of(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml_of(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    return "1" if value == 10**30 else json.dumps(value)  # TOML has 64 bits


_FILES = st.tuples(st.lists(_BACKENDS, max_size=3), _URLS | st.none(), st.booleans()).map(
    lambda parts: "".join(
        [
            f"[server]\nstate = {toml_of(parts[1])}\n" if parts[1] is not None else "",
            *(
                "[[backend]]\n" + "".join(f"{key} = {toml_of(item)}\n" for key, item in entry.items())
                for entry in parts[0]
            ),
            f"[[plugin]]\nuse = 'x'\npassword = {json.dumps(SECRET)}\n",
            f"auth_token = {SECRET}\n" if parts[2] else "",  # without quotes, this is no TOML
        ]
    )
)


@settings(max_examples=400, deadline=None)
@given(environ=_VARIABLES, dotenv=_VARIABLES, toml=_FILES | st.none())
def test_no_secret_comes_out(environ: dict[str, str], dotenv: dict[str, str], toml: str | None) -> None:
    with TemporaryDirectory() as name:
        directory = Path(name)
        (directory / ".env").write_text("".join(f"{key}={json.dumps(value)}\n" for key, value in dotenv.items()))
        if toml is not None:
            (directory / "plugins.toml").write_text(toml)
        try:
            loaded = load({}, {"HOME": "/home/op", **environ}, directory)
        except ConfigError as error:
            said = "".join(traceback.format_exception(error)) + repr(error) + repr(error.problems)
        else:
            said = repr(loaded) + str(describe(loaded)) + str(loaded.notices) + str(loaded.origins)
    assert SECRET not in said
