from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from herdgate.fields import Accepted, Count, Duration, DurationOrZero, Size, accepted_by, parse_duration, parse_size


class Example(BaseModel):
    wait: Duration = 1
    rest: DurationOrZero = 0
    room: Size = 1
    many: Count = 1
    maybe: Duration | None = None
    narrowed: Annotated[Count, Accepted("from 1 to 3")] = 1
    plain: str = ""


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (15, 15.0),
        (0.5, 0.5),
        ("15", 15.0),
        ("0.5", 0.5),
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("12h", 43200.0),
        ("30d", 2592000.0),
        (" 2.5s ", 2.5),
    ],
)
def test_a_duration_is_seconds_or_a_text_with_units(written: object, seconds: float) -> None:
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "s",
        "5 minutes",
        "5M",
        "-5s",
        "-1",
        -1,
        True,
        None,
        [],
        "1m!",
        "m5",
        "1e3",
        "nan",
        "inf",
        float("nan"),
        10**400,
    ],
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(written)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_every_unit_scales_its_number(number: int, unit: str) -> None:
    assert parse_duration(f"{number}{unit}") == pytest.approx(number * parse_duration(f"1{unit}"))


@pytest.mark.parametrize(
    ("written", "size"),
    [(7, 7), ("7", 7), ("7B", 7), ("2kB", 2000), ("2 KiB", 2048), ("100 MiB", 104857600), ("1.5gib", 1610612736)],
)
def test_a_size_is_bytes_or_a_text_with_a_unit(written: object, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize("written", ["", "lots", "100m", "100 Mi", "-1", True, None, 1.5, "1 TiB extra", "9" * 400])
def test_what_is_no_size_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(written)


@pytest.mark.parametrize(
    "values", [{"wait": 0}, {"wait": "400d"}, {"rest": -1}, {"room": 0}, {"room": -5}, {"many": 0}, {"many": True}]
)
def test_fields_have_bounds(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Example.model_validate(values)


def test_a_rest_of_zero_is_fine() -> None:
    assert Example.model_validate({"rest": "0s"}).rest == 0


def test_the_words_for_a_field_are_found_inside_a_union_and_the_outermost_ones_count() -> None:
    fields = Example.model_fields
    assert accepted_by(fields["maybe"]) == accepted_by(fields["wait"]) is not None
    assert accepted_by(fields["narrowed"]) == "from 1 to 3"
    assert accepted_by(fields["plain"]) is None
