"""What a reload takes over, and when changed files ask for one."""

import logging
from pathlib import Path

import pytest

from herdgate.config import Settings, load
from herdgate.reloading import FIXED, FileWatch, files_of, read_anew, without_fixed


def settings(place: Path, toml: str = "", **environ: str) -> Settings:
    (place / "plugins.toml").write_text(toml)
    return read(place, **environ)


def read(place: Path, **environ: str) -> Settings:
    return load({}, {"HERDGATE_STATE": "sqlite:///here.db", **environ}, place)


def test_what_a_process_cannot_change_stays_and_is_named(tmp_path: Path) -> None:
    present = settings(tmp_path)
    other = settings(
        tmp_path,
        '[server]\nhost = "::1"\nport = 1\nworkers = 3\nlog_format = "json"\ndrain = 5\nlog_level = "debug"\n',
        HERDGATE_STATE="sqlite:///there.db",
    )
    kept, waiting = without_fixed(other, present)
    assert waiting == FIXED
    assert kept.server == present.server.model_copy(update={"drain": 5.0, "log_level": "debug"})


def test_what_is_the_same_is_not_named(tmp_path: Path) -> None:
    assert without_fixed(settings(tmp_path), settings(tmp_path)) == (settings(tmp_path), ())


def test_the_log_says_what_has_to_wait_and_no_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    present = settings(tmp_path)
    with caplog.at_level(logging.INFO):
        read_anew(lambda: settings(tmp_path, HERDGATE_STATE="redis://:secret@r:6379/0"), present)
    assert "cannot change without a restart" in caplog.text
    assert "state" in caplog.text
    assert "secret" not in caplog.text


def test_mistakes_are_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    present = settings(tmp_path)
    wrong = "[server]\ndrain = -1\nport = -1\n"
    assert read_anew(lambda: settings(tmp_path, wrong), present) is None
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    message = record.getMessage()
    assert message.startswith("the configuration is not reloaded, the present one stays: 2 problems")
    assert "\n" not in message


def test_whatever_goes_wrong_the_present_configuration_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def read() -> Settings:
        raise RuntimeError("nobody has thought of this")

    assert read_anew(read, settings(tmp_path)) is None
    (record,) = caplog.records
    assert (record.levelname, bool(record.exc_info)) == ("ERROR", True)
    assert record.getMessage() == "the configuration is not reloaded, the present one stays"


@pytest.mark.parametrize("left", [None, "", "# to be filled in\n"])
def test_a_file_that_is_gone_or_empty_is_no_configuration(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, left: str | None
) -> None:
    said = '[server]\nreload_on_change = true\n[[backend]]\nname = "one"\nbase_url = "http://one"\n'
    present = settings(tmp_path, said)
    file = tmp_path / "plugins.toml"
    file.unlink()
    if left is not None:
        file.write_text(left)

    assert read_anew(lambda: read(tmp_path), present) is None
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert f"{file}, which the present configuration came from, is {'gone' if left is None else 'empty'}" in caplog.text

    assert read_anew(lambda: settings(tmp_path, said.replace("one", "other")), present) is not None
    assert len(caplog.records) == 1


def test_a_file_that_is_named_no_more_is_no_reason_to_go_on_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "own.toml").write_text("[server]\ndrain = 5\n")
    present = read(tmp_path, HERDGATE_CONFIG="own.toml")
    assert read_anew(lambda: read(tmp_path), present) is None
    assert "own.toml, which the present configuration came from, is not named any more" in caplog.text


def test_who_began_without_a_file_or_with_an_empty_one_may_go_on_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_anew(lambda: read(tmp_path), read(tmp_path)) is not None
    assert read_anew(lambda: settings(tmp_path), read(tmp_path)) is not None
    assert read_anew(lambda: settings(tmp_path), settings(tmp_path)) is not None
    assert not caplog.records


def test_the_log_says_that_nobody_looks_at_the_files_any_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watched = settings(tmp_path, "[server]\nreload_on_change = true\n")
    assert read_anew(lambda: settings(tmp_path, "[server]\ndrain = 5\n"), watched) is not None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "reload_on_change is off" in caplog.text


def test_the_files_are_those_that_were_read_and_those_of_plugins(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("")
    read = settings(tmp_path, '[[plugin]]\nuse = "./own.py:Own"\n[[plugin]]\nuse = "generic_403"\n')
    assert files_of(read, tmp_path) == [tmp_path / "plugins.toml", tmp_path / ".env", tmp_path / "own.py"]


class TestFileWatch:
    def test_a_change_counts_once_it_rests(self, tmp_path: Path) -> None:
        file = tmp_path / "plugins.toml"
        watch = FileWatch([file])
        assert not watch.changed()
        file.write_text("half")
        assert not watch.changed()  # it may still be written
        file.write_text("half and half")
        assert not watch.changed()
        assert watch.changed()

    def test_what_was_read_is_no_news(self, tmp_path: Path) -> None:
        file = tmp_path / "plugins.toml"
        file.write_text("one")
        watch = FileWatch([file])
        file.write_text("another")
        watch.catch_up()
        assert not watch.changed()
        file.unlink()
        assert not watch.changed()
        assert watch.changed()

    def test_a_change_that_is_taken_back_is_none(self, tmp_path: Path) -> None:
        file = tmp_path / ".env"
        watch = FileWatch([file])
        file.write_text("")
        assert not watch.changed()
        file.unlink()
        assert not watch.changed()
        assert not watch.changed()
