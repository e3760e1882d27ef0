from collections.abc import Mapping
from typing import Any

import pytest

from herdgate.metrics import Metric, render


def counter(name: str = "seen_total", values: Mapping[Any, float] | None = None, *labels: str) -> Metric:
    return Metric(name, "What was seen.", "counter", values or {(): 3}, labels)


def page(**measured: list[Metric]) -> list[str]:
    return render(measured).decode().splitlines()


def test_a_metric_without_labels_is_a_line() -> None:
    assert page(**{"": [counter()]}) == [
        "# HELP seen_total What was seen.",
        "# TYPE seen_total counter",
        "seen_total 3",
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (3.0, "3"), (0.25, "0.25"), (1e-9, "1e-09"), (2**60, str(2**60))]
)
def test_a_value_is_written_so_that_nothing_of_it_is_lost(value: float, text: str) -> None:
    assert page(**{"": [counter(values={(): value})]})[-1] == f"seen_total {text}"


def test_labels_are_quoted() -> None:
    values = {('a"b\\c\nd', "é"): 1}
    assert page(**{"": [counter("x_total", values, "one", "two")]})[-1] == 'x_total{one="a\\"b\\\\c\\nd",two="é"} 1'


def test_the_values_of_several_processes_stand_together() -> None:
    both = page(**{"1": [counter()], "2": [counter(), counter("other_total", {("a",): 1}, "x")]})
    assert both == [
        "# HELP seen_total What was seen.",
        "# TYPE seen_total counter",
        'seen_total{worker="1"} 3',
        'seen_total{worker="2"} 3',
        "# HELP other_total What was seen.",
        "# TYPE other_total counter",
        'other_total{x="a",worker="2"} 1',
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("a b_total", "", "counter", {}), "is not the name of a metric or a label"),
        (("a", "", "counter", {}), "the names of counters end in _total"),
        (("a_total", "", "gauge", {}), "the names of counters end in _total"),
        (("a", "", "histogram", {}), "a is a counter or a gauge, not 'histogram'"),
        (("a", "", "gauge", {}, ("b-c",)), "is not the name of a metric or a label"),
        (("a", "", "gauge", {}, ("worker",)), "is not the name of a metric or a label"),
        (("a", "", "gauge", {("x",): 1}), "a has 0 labels, and a value for"),
        (("a", "", "gauge", {"x": 1}, ("b",)), "a has 1 labels, and a value for 'x'"),
    ],
)
def test_what_prometheus_could_not_read_is_refused(arguments: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Metric(*arguments)
