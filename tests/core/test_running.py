import pytest

from herdgate.backend import ModelEntry
from herdgate.running import RunningModel

RAW: dict[str, object] = {"name": "m:latest", "model": "m:latest", "size": 10, "size_vram": 4}


def test_a_row_is_the_first_backends_and_only_insiders_see_the_sums() -> None:
    first = RunningModel(ModelEntry.from_tags(RAW), RAW, ("a",), 10, 4)
    second = RunningModel(ModelEntry.from_tags(RAW), {**RAW, "size": 7}, ("b",), 7, 7)
    both = first.joined(second)
    assert both.row(inside=False) == RAW
    assert both.row(inside=True) == {**RAW, "herdgate": {"backends": ("a", "b"), "size": 17, "size_vram": 11}}


@pytest.mark.parametrize(
    ("expires_at", "seconds"),
    [
        ("1970-01-02T00:00:00Z", 86400),
        ("1970-01-01T14:00:00.123456789+14:00", 0.123456),
        ("1969-12-31T16:00:01-08:00", 1),
        ("", 0),
        ("soon", 0),
        (None, 0),
        (5, 0),
        ("0001-01-01T00:00:00", 0),
    ],
)
def test_when_it_will_be_unloaded_does_not_depend_on_the_time_zone(expires_at: object, seconds: float) -> None:
    assert RunningModel(ModelEntry.from_tags(RAW), {"expires_at": expires_at}, ("a",), 1, 1).expires == seconds
