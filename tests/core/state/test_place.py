from pathlib import Path

import pytest
from pydantic import SecretStr

from herdgate.state import StateUnavailable, open_state
from herdgate.state.place import InvalidStateURL, RedisPlace, SqlitePlace, parse_place


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/lib/herdgate/herdgate.db", "/var/lib/herdgate/herdgate.db"),
        ("sqlite:////var/lib/herdgate.db", "/var/lib/herdgate.db"),
        ("sqlite:///with%20space/100%25.db", "/with space/100%.db"),
        ("SQLITE:///upper.db", "/upper.db"),
    ],
)
def test_sqlite(url: str, path: str) -> None:
    assert parse_place(url) == SqlitePlace(Path(path))


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://cache", RedisPlace("cache")),
        ("redis://cache:7000/3", RedisPlace("cache", 7000, 3)),
        ("redis://cache/", RedisPlace("cache")),
        ("rediss://cache", RedisPlace("cache", tls=True)),
        ("redis://[::1]:7000", RedisPlace("::1", 7000)),
        ("redis://:p%40ss%2Fword@cache", RedisPlace("cache", password=SecretStr("p@ss/word"))),
        ("redis://me:pw@cache", RedisPlace("cache", username="me", password=SecretStr("pw"))),
        (
            "rediss://cache?ssl_ca_certs=/etc/ca.pem",
            RedisPlace("cache", tls=True, tls_files=(("ssl_ca_certs", "/etc/ca.pem"),)),
        ),
    ],
)
def test_redis(url: str, place: RedisPlace) -> None:
    assert parse_place(url) == place


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        ("sqlite:///with%20space/a.db", "sqlite:///with%20space/a.db"),
        ("redis://cache", "redis://cache:6379/0"),
        ("rediss://user:sesame@[::1]:7000/2?ssl_ca_certs=/a", "rediss://[::1]:7000/2"),
    ],
)
def test_printed_without_credentials(url: str, printed: str) -> None:
    place = parse_place(url)
    assert str(place) == printed
    assert "sesame" not in repr(place)
    assert parse_place(printed)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "is empty"),
        ("sesame", "none of the known schemes"),
        ("unix:///run/redis.sock?password=sesame", "none of the known schemes"),
        ("sesame://host", "none of the known schemes"),
        ("/var/lib/herdgate.db", "none of the known schemes"),
        ("sqlite://herdgate.db", "relative path"),
        ("sqlite:herdgate.db", "relative path"),
        ("sqlite://", "relative path"),
        ("sqlite:///", "names no file"),
        ("sqlite:///directory/", "names no file"),
        ("sqlite:///a%00b", "names no file"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///a.db?mode=ro", r"\?"),
        ("redis://", "names no host"),
        ("redis:///0", "names no host"),
        ("redis://:ses/ame@host", "bad port"),
        ("redis://:sesame@host:99999", "bad port"),
        ("redis://:sesame#@host", "bad port|has a #|no host"),
        ("redis://host/zero", "no number"),
        ("redis://host/-1", "no number"),
        ("redis://host/\u0661", "no number"),  # an Arabic digit
        ("redis://[sesame", "cannot be read"),
        ("redis://host?socket_timeout=60", "options other than"),
        ("redis://host?password=sesame", "options other than"),
        ("redis://host?ssl_ca_certs=/a", "only rediss://"),
    ],
)
async def test_refused_with_what_is_accepted_and_without_repeating_it(url: str, problem: str) -> None:
    with pytest.raises(InvalidStateURL, match=problem) as refusal:
        parse_place(url)
    assert "accepted: sqlite:///absolute/path, redis://" in str(refusal.value)
    assert "ses" not in str(refusal.value).replace("uses", "")
    assert isinstance(refusal.value, ValueError)
    with pytest.raises(StateUnavailable, match=problem):
        await open_state(url)
