"""`proxyctl keys`: made once, shown never again."""

import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from herdgate.keys import KeyRecord, KeyStore, hash_secret
from herdgate.state import open_state

from .conftest import Loop, json_of, proxyctl


def records(aside: Loop, place: Path) -> list[KeyRecord]:
    async def listed() -> list[KeyRecord]:
        state = await open_state(f"sqlite://{place}/state.db")
        try:
            return await KeyStore(state).list()
        finally:
            await state.close()

    return aside.run(listed())


def test_a_key_is_printed_once(aside: Loop, place: Path) -> None:
    limits = ("--rpm", "60", "--cloud", "--deadline", "5m")
    made = json_of("keys", "create", "--name", "alice", "--models", "llama3.2, qwen3:*", *limits)

    assert list(made) == ["id", "name", "key", "models", "admin", "expires", "rpm", "cloud", "deadline"]
    assert made["key"].startswith("hg_")
    assert made["models"] == ["llama3.2", "qwen3:*"]
    assert (made["admin"], made["expires"], made["rpm"], made["cloud"]) == (False, None, 60, True)
    assert made["deadline"] == 300
    (record,) = records(aside, place)
    assert record.hash == hash_secret(made["key"])
    for shown in (
        proxyctl("keys", "list").stdout,
        proxyctl("keys", "list", "--json").stdout,
        proxyctl("keys", "show", "alice").stdout,
        proxyctl("keys", "show", "alice", "--json").stdout,
        proxyctl("keys", "revoke", "alice", "--json").stdout,
    ):
        assert made["id"] in shown
        assert made["key"] not in shown
        assert record.hash not in shown


def test_only_the_secret_goes_to_stdout(place: Path) -> None:
    result = proxyctl("keys", "create", "--name", "alice", "--models", "*")

    assert result.stdout.startswith("hg_")
    assert result.stdout.count("\n") == 1
    assert result.stdout.strip() not in result.stderr
    for hint in ("Authorization: Bearer", "x-api-key", "OPENAI_API_KEY", str(place)):
        assert hint in result.stderr


def at_a_shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh", "-c", command, sys.executable], capture_output=True, text=True, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
@pytest.mark.parametrize("form", ["", "--json"])
@pytest.mark.parametrize("to", [">/dev/full", "| /bin/false"])
def test_a_key_that_nobody_got_is_revoked(aside: Loop, place: Path, form: str, to: str) -> None:
    reader = "import os; r, w = os.pipe(); os.close(r); os.dup2(w, 1)"  # a pipe that nobody reads, for certain
    command = f'"$0" -m herdgate.cli keys create --name alice --models "*" {form}'
    if to.startswith("|"):
        python = f"{reader}; import sys; from herdgate.cli import main; main(sys.argv[1:])"
        command = command.replace("-m herdgate.cli", f"-c '{python}'")
    else:
        command += to
    done = at_a_shell(command)

    assert done.returncode == 1
    (record,) = records(aside, place)
    assert record.revoked is not None
    assert f"Key alice ({record.id}) could not be handed over and is revoked again" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert ("No space left on device" in done.stderr) is (to == ">/dev/full")


def test_no_key_is_made_for_a_closed_stdout(place: Path) -> None:
    done = at_a_shell('"$0" -m herdgate.cli keys create --name alice --models "*" >&-')
    assert done.returncode == 1
    assert "standard output is closed" in done.stderr
    assert not (place / "state.db").exists()


def test_statuses(aside: Loop, place: Path) -> None:
    json_of("keys", "create", "--name", "short", "--models", "*", "--expires", "1s")
    json_of("keys", "create", "--name", "gone", "--models", "*")
    json_of("keys", "create", "--name", "live", "--admin", "--expires", "30d")
    json_of("keys", "revoke", "gone")
    end = next(record.expires for record in records(aside, place) if record.name == "short")
    assert end is not None
    while time.time() < end:
        time.sleep(0.05)

    keys = {key["name"]: key for key in json_of("keys", "list")["keys"]}

    assert {name: key["status"] for name, key in keys.items()} == {
        "short": "expired",
        "gone": "revoked",
        "live": "live",
    }
    assert keys["gone"]["revoked"] is not None
    assert keys["live"]["admin"] is True
    lasts = datetime.fromisoformat(keys["live"]["expires"]) - datetime.fromisoformat(keys["live"]["created"])
    assert abs(lasts.total_seconds() - 30 * 86400) <= 2
    rows = [line.split()[1:3] for line in proxyctl("keys", "list").stdout.splitlines()[1:]]
    assert rows == [["short", "expired"], ["gone", "revoked"], ["live", "live"]]


def test_show_takes_an_id_too() -> None:
    made = json_of("keys", "create", "--name", "alice", "--models", "*")
    assert json_of("keys", "show", made["id"])["name"] == "alice"


def test_without_keys_the_mode_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "serves callers without one" in proxyctl("keys", "list").stdout
    assert json_of("keys", "list") == {"keys": []}
    monkeypatch.setenv("HERDGATE_ADMIN_KEY", "a-long-admin-key-of-mine")
    said = proxyctl("keys", "list").stdout
    assert "every caller needs a key" in said
    assert "a-long-admin-key-of-mine" not in said


def test_only_create_makes_the_file(place: Path) -> None:
    for arguments, code in ((["list"], 0), (["show", "alice"], 2), (["revoke", "alice"], 2)):
        said = proxyctl("keys", *arguments, code=code).stderr
        assert f"there is no state file at {place}/state.db yet" in said
        assert not (place / "state.db").exists()
    json_of("keys", "create", "--name", "alice", "--models", "*")
    assert (place / "state.db").exists()
    assert proxyctl("keys", "list").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["create", "--name", "taken", "--models", "*"], 1, "already"),
        (["revoke", "nobody"], 1, "nobody"),
        (["show", "nobody"], 1, "nobody"),
        (["create", "--models", "*"], 2, "--name"),
        (["create", "--name", "x"], 2, "models"),
        (["create", "--name", "x", "--models", "a b"], 2, "a b"),
        (["create", "--name", "x", "--models", "*", "--expires", "soon"], 2, "30d"),
        (["create", "--name", "x", "--models", "*", "--rpm", "0"], 2, "0 requests"),
        (["create", "--name", "x", "--models", "*", "--rpm", "many"], 2, "--rpm"),
        (["create", "--name", "x", "--models", "*", "--deadline", "soon"], 2, "--deadline"),
        (["create", "--name", "hg_oops", "--models", "*"], 2, "secret"),
    ],
)
def test_what_cannot_be_done(arguments: list[str], code: int, said: str) -> None:
    json_of("keys", "create", "--name", "taken", "--models", "*")

    result = proxyctl("keys", *arguments, code=code)

    assert said in result.stderr
    assert result.stdout == ""
    assert len(json_of("keys", "list")["keys"]) == 1


def test_a_key_is_revoked_once() -> None:
    json_of("keys", "create", "--name", "alice", "--models", "*")
    assert "revoked" in proxyctl("keys", "revoke", "alice").stdout
    assert "was revoked already" in proxyctl("keys", "revoke", "alice", code=1).stderr


def test_a_state_that_is_away(dead: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERDGATE_STATE", dead["base_url"].replace("http://", "redis://:secret@"))

    result = proxyctl("keys", "list", code=2)

    assert result.stderr.startswith("Error: the state at redis://127.0.0.1")
    assert "secret" not in result.stderr
