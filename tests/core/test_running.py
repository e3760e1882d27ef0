from herdgate.backend import ModelEntry
from herdgate.running import RunningModel

RAW: dict[str, object] = {"name": "m:latest", "model": "m:latest", "size": 10, "size_vram": 4}


def test_a_row_is_the_first_backends_and_only_insiders_see_the_sums() -> None:
    first = RunningModel(ModelEntry.from_tags(RAW), RAW, ("a",), 10, 4)
    second = RunningModel(ModelEntry.from_tags(RAW), {**RAW, "size": 7}, ("b",), 7, 7)
    both = first.joined(second)
    assert both.row(inside=False) == RAW
    assert both.row(inside=True) == {**RAW, "herdgate": {"backends": ("a", "b"), "size": 17, "size_vram": 11}}
