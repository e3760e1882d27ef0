import json
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from herdgate.body import BadBody, Body, read_body

LONG_S, KELVIN = "\u017f", "\u212a"
READ_BY_NAME = ["model", "name", "stream", "keep_alive", "source", "destination", "from", "messages", "prompt", "input"]
READ_BY_NAME += ["options", "remote_host", "stream_options", "tools", "max_tokens", "think", "images", "format"]


def refusal(raw: bytes | str) -> str:
    with pytest.raises(BadBody) as refused:
        read_body(raw if isinstance(raw, bytes) else raw.encode())
    return str(refused.value)


def read(**fields: object) -> Body:
    return read_body(json.dumps(fields).encode())


# --- what is accepted ----------------------------------------------------------------------------------------------


def test_every_top_level_key_is_kept_with_the_json_text_of_its_value() -> None:
    raw = b' {"model" : "m1", "options": {"num_ctx": 1 , "seed":[1,2]},\n"stream":null, "unheard_of": 1.50}\n'
    body = read_body(raw)
    assert {name: bytes(text) for name, text in body.fields.items()} == {
        "model": b'"m1"',
        "options": b'{"num_ctx": 1 , "seed":[1,2]}',
        "stream": b"null",
        "unheard_of": b"1.50",
    }
    assert body.raw is raw


@pytest.mark.parametrize(
    "raw",
    [
        '{"prompt":"\\u0000 and \\ud83d\\ude00 and \U0001f600 and \\uFFFF"}',
        '{"model":"a","options":{"MODEL":"b","Model":"c","model":"d","model":"e"}}',
        '{"Unheard":1,"of":2}',
        '{"é":1,"e":2}',
        '{"ß":1,"ss":2}',
        '{"me\u00df ages":1,"ﬁles":2}',
        '{"":1}',
        "{}",
        '{"prompt":"{\\"model\\":\\"b\\"} \\\\"}',
    ],
)
def test_what_every_reader_understands_alike_is_accepted(raw: str) -> None:
    assert dict(read_body(raw.encode()).fields).keys() == json.loads(raw).keys()


def test_an_escaped_key_is_the_key_it_spells() -> None:
    assert read_body(b'{"\\u006dode\\u006C":"m1"}').text("model") == "m1"


# --- what is not plain JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"", b" \n\t"])
def test_an_empty_body_is_refused_in_ollamas_words(raw: bytes) -> None:
    assert refusal(raw) == "missing request body"


@pytest.mark.parametrize("raw", ["[]", "null", '"model"', "1", "true", '[{"model":"m"}]'])
def test_anything_but_an_object_is_refused(raw: str) -> None:
    assert refusal(raw) == "the request body must be a JSON object"


@pytest.mark.parametrize(
    "raw",
    [
        '{"model":"m"} junk',
        '{"model":"m"}{"model":"n"}',
        '{"model":"m"}\x00',
        '{"model":"m"}\u00a0',
        '{"model":"m",}',
        "{'model':'m'}",
        '{model:"m"}',
        '{"model":"m"',
        '{"a":NaN}',
        '{"a":[{"b":Infinity}]}',
        '{"a":-Infinity}',
        '{"a":01}',
        '{"a":[1.]}',
        '{"a":+1}',
        '{"a":"\n"}',
        '{"a":["\\q"]}',
        '{"a":"\x00"}',
        '{"a":1 /* why */}',
        "\x0c{}",
    ],
)
def test_what_is_not_quite_json_is_refused(raw: str) -> None:
    assert refusal(raw).startswith("the request body is not valid JSON: ")


def test_a_byte_order_mark_is_refused_by_name() -> None:
    assert "byte order mark" in refusal(b'\xef\xbb\xbf{"model":"m"}')
    assert "not valid" in refusal('{"model":"m"}'.encode("utf-16"))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"m\xff"}',
        b'{"options":{"a":["\xc3("]}}',
        b'{"mod\xc0\xa5l":"m"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"' + b"x" * 65_529 + b'\xc3"}',
        b'{"a":"\xc3\xa9"}\xc3',
    ],
)
def test_bytes_that_are_not_utf8_are_refused_wherever_they_stand(raw: bytes) -> None:
    assert refusal(raw) == "the request body is not valid UTF-8"


@pytest.mark.parametrize("shift", range(4))
def test_a_character_across_the_border_of_two_pieces_is_valid(shift: int) -> None:
    text = "x" * (65_536 - 6 - shift) + "😀" * 40_000
    assert read_body(json.dumps({"a": text}, ensure_ascii=False).encode()).text("a") == text


@pytest.mark.parametrize(
    "text", ['"\\ud800"', '"\\udc00"', '["x","\\ud83d and more text"]', '{"b":"\\udc00\\ud800"}', '"\\ud83d\\u0041"']
)
def test_half_a_surrogate_pair_is_refused_in_values_of_any_depth(text: str) -> None:
    assert refusal('{"a":' + text + "}").startswith("the request body is not valid JSON")


def test_half_a_surrogate_pair_is_refused_in_a_key() -> None:
    assert refusal('{"\\ud800model":1}').startswith("the request body is not valid JSON")


# --- keys that two readers would understand differently ------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        '{"model":"a","model":"b"}',
        '{"model":"a","model":"a"}',
        '{"model":"a","\\u006dodel":"b"}',
        '{"x":1,"y":2,"x":3}',
    ],
)
def test_a_key_given_twice_is_refused(raw: str) -> None:
    assert re.fullmatch("the key '(model|x)' is given twice", refusal(raw))


def test_keys_that_differ_only_in_case_are_refused_even_if_nobody_knows_them() -> None:
    assert refusal('{"Foo":1,"fOO":2}') == "the keys 'Foo' and 'fOO' differ only in case"
    assert "differ only in case" in refusal('{"Ä":1,"ä":2}')
    assert "differ only in case" in refusal(f'{{"{LONG_S}x":1,"sx":2}}')
    assert "differ only in case" in refusal('{"model":"a","MODEL":"b"}')


@pytest.mark.parametrize("name", READ_BY_NAME)
def test_a_field_is_reached_by_no_other_spelling(name: str) -> None:
    assert read_body(f'{{"{name}":"v"}}'.encode()).text(name) == "v"
    spellings = {name.upper(), name.title(), name[:-1] + name[-1].upper()}
    spellings |= {name.replace("s", LONG_S), name.replace("k", KELVIN), name.upper().replace("S", LONG_S)} - {name}
    for spelling in spellings:
        message = refusal(f'{{"{spelling}":"v"}}')
        assert f"would be read as {name!r}" in message
        assert message.isascii()  # a look-alike letter must be visible
        assert refusal(f'{{"{name}":"v","{spelling}":"w"}}')


def test_every_character_that_go_folds_to_an_ascii_letter_is_folded() -> None:
    # 'ﬁ' and 'ß' fold to several letters in Python, which Go never does.
    impostors = []
    for code in range(128, sys.maxunicode + 1):
        if 0xD800 <= code < 0xE000 or not any("a" <= folded <= "z" for folded in chr(code).casefold()):
            continue
        for letter in "abcdefghijklmnopqrstuvwxyz":
            try:
                read_body(json.dumps({letter: 1, chr(code): 2}).encode())
            except BadBody:
                impostors.append((letter, chr(code)))
    assert impostors == [("s", LONG_S), ("k", KELVIN)]


def test_no_message_repeats_a_value() -> None:
    for raw in (
        '{"model":"hunter2","model":"hunter2"}',
        '{"MODEL":"hunter2"}',
        '{"a":"hunter2" "hunter2"}',
        '{"a":hunter2}',
    ):
        assert "hunter2" not in refusal(raw)
    with pytest.raises(BadBody) as refused:
        read(stream="hunter2").boolean("stream", default=True)
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in repr(read(prompt="hunter2"))


# --- size and depth ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_refused_and_what_is_usual_is_not(opening: str, closing: str) -> None:
    assert (
        refusal('{"a":' + opening * 100_000 + "1" + closing * 100_000 + "}") == "the request body is nested too deeply"
    )
    assert refusal('{"a":' + opening * 100_000) == "the request body is nested too deeply"
    read_body(('{"a":' + opening * 200 + "1" + closing * 200 + "}").encode())


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="code in C no longer shares the limit of code in Python")
def test_a_value_that_is_read_with_less_stack_left_than_the_body_is_refused_too() -> None:
    depth = 200
    body = read_body(b'{"a":' + b"[" * depth + b"]" * depth + b"}")

    def call_with_little_stack_left(call: Callable[[], object]) -> object:
        try:
            return call_with_little_stack_left(call)
        except RecursionError:
            return call()

    with pytest.raises(BadBody, match='"a" is nested too deeply'):
        call_with_little_stack_left(lambda: body.value("a"))


def test_a_flood_of_keys_is_refused_before_it_is_read() -> None:
    flood = b"{" + b",".join(b'"k%d":1' % i for i in range(1_000_000)) + b"}"
    started = time.perf_counter()
    assert refusal(flood) == "the request body has more than 256 fields"
    assert time.perf_counter() - started < 0.2
    assert len(read(**{f"k{i}": i for i in range(256)}).fields) == 256
    assert len(read(**{f"k{i}": i for i in range(255)}, model="m").fields) == 256
    assert refusal(json.dumps({**{f"k{i}": i for i in range(256)}, "model": "m"})) == (
        "the request body has more than 256 fields"
    )


def test_each_body_is_read_as_if_it_were_the_first() -> None:
    for _ in range(2):
        assert refusal('{"model":"a","stream":true,"model":"b"}') == "the key 'model' is given twice"
        assert read(model="a", stream=True, unheard_of=1).fields.keys() == {"model", "stream", "unheard_of"}


def test_threads_read_without_seeing_each_others_keys() -> None:
    raw = json.dumps({**dict.fromkeys(READ_BY_NAME), **{f"k{i}": i for i in range(200)}}).encode()

    def read_often(_: int) -> list[int]:
        return [len(read_body(raw).fields) for _ in range(200)]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as threads:
            counts = [*threads.map(read_often, range(2))]
    finally:
        sys.setswitchinterval(interval)
    assert counts == [[len(READ_BY_NAME) + 200] * 200] * 2


def test_a_key_of_absurd_length_is_refused() -> None:
    assert refusal('{"' + "é" * 257 + '":1}') == "the request body has a key longer than 256 characters"
    read(**{"é" * 256: 1})


# --- reading fields ------------------------------------------------------------------------------------------------


def test_absent_and_null_are_the_same() -> None:
    for body in (read(), read(model=None, stream=None)):
        assert body.value("model") is None
        assert body.text("model") == ""
        assert body.boolean("stream", default=True) is True
        assert body.boolean("stream", default=False) is False


def test_a_field_of_the_right_type_is_returned() -> None:
    body = read(model=" m1\x00 ", stream=False, keep_alive=-1.5, options={"stop": ["a", None, 2**70]})
    assert body.text("model") == " m1\x00 "
    assert body.boolean("stream", default=True) is False
    assert body.value("keep_alive") == -1.5
    assert body.value("options") == {"stop": ["a", None, 2**70]}


@pytest.mark.parametrize("value", [1, True, ["m"], {"m": 1}, 0, False])
def test_a_model_that_is_no_string_is_refused(value: object) -> None:
    with pytest.raises(BadBody, match='the field "model" must be a string'):
        read(model=value).text("model")


@pytest.mark.parametrize("value", ["false", "", 0, 1, [], {}])
def test_a_switch_that_is_no_boolean_is_refused(value: object) -> None:
    with pytest.raises(BadBody, match='the field "stream" must be true or false'):
        read(stream=value).boolean("stream", default=True)


@pytest.mark.parametrize("value", ["{}", "[]", "0", "[[[[]]]]", '{"a":{}}'])
def test_a_field_of_a_million_values_is_forwarded_but_not_decoded(value: str) -> None:
    body = read_body(f'{{"model":"m","messages":[{",".join([value] * 1_000_000)}]}}'.encode())
    with pytest.raises(BadBody, match='the field "messages" has too many values'):
        body.value("messages")


def test_a_field_of_great_length_and_few_values_is_decoded() -> None:
    pictures = ["x" * 10_000_000, "y" * 10_000_000]
    assert read(images=pictures).value("images") == pictures


@pytest.mark.parametrize("number", ["1e999", "1" * 5000])
def test_a_number_nobody_can_hold_is_refused_when_it_is_read(number: str) -> None:
    body = read_body(f'{{"keep_alive":{number},"model":"m"}}'.encode())
    assert body.text("model") == "m"
    with pytest.raises(BadBody, match='"keep_alive" has a number that is out of range'):
        body.value("keep_alive")


# --- the same body in three readers' eyes --------------------------------------------------------------------------


def as_go_reads(raw: bytes, names: tuple[str, ...]) -> dict[str, Any]:
    """A model of encoding/json filling a struct: keys are folded, null changes nothing, the last one wins."""

    def fold(key: str) -> str:
        ascii_lower = "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in key)
        return ascii_lower.replace(LONG_S, "s").replace(KELVIN, "k")

    struct: dict[str, Any] = {}
    for key, value in json.loads(raw.decode(), object_pairs_hook=list):
        if fold(key) in names and value is not None:
            struct[fold(key)] = value
    return struct


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def spelled(key: str, how: int) -> str:
    return {
        0: key,
        1: key.upper(),
        2: key.title(),
        3: key.replace("s", LONG_S),
        4: key.replace("k", KELVIN),
        5: f"\\u{ord(key[0]):04x}{key[1:]}",
    }[how]


keys = st.builds(spelled, st.sampled_from(["model", "stream", "keep_alive", "name", "x", "foo"]), st.integers(0, 5))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
spaces = st.sampled_from(["", " ", "\n\t\r "])
members = st.builds(
    lambda key, value, space, plain: f'{space}"{key}"{space}:{space}{json.dumps(value, ensure_ascii=plain)}{space}',
    keys,
    json_values,
    spaces,
    st.booleans(),
)
objects = st.lists(members, max_size=4).map(lambda some: ("{" + ",".join(some) + "}").encode())
scraps = st.sampled_from([bytes([c]) for c in b'"\\{}[]:, 0-.e\xff\x00'])
edits = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 3), scraps | st.sampled_from([b"NaN", b"\\ud800", b"\xc5\xbf"])),
    max_size=3,
)


def edited(raw: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for at, removed, inserted in changes:
        at %= len(raw) + 1
        raw = raw[:at] + inserted + raw[at + removed :]
    return raw


almost_json = st.builds(edited, objects, edits) | st.binary(max_size=60)


@settings(max_examples=500)
@given(almost_json)
@example(b'{"model":"a","MODEL":"b"}')
@example('{"\u017ftream":false}'.encode())
def test_whatever_is_accepted_means_the_same_to_python_and_to_go(raw: bytes) -> None:
    try:
        body = read_body(raw)
    except BadBody:
        return
    expected = json.loads(raw.decode(), parse_constant=refuse_constant)
    assert {name: json.loads(bytes(text)) for name, text in body.fields.items()} == expected
    go = as_go_reads(raw, ("model", "stream", "keep_alive", "name"))
    for name in ("model", "stream", "keep_alive", "name"):
        assert go.get(name) == json.loads(bytes(body.fields.get(name, b"null")), object_pairs_hook=list)


@given(st.dictionaries(st.sampled_from([*READ_BY_NAME, "x", "Y", "0"]), json_values, max_size=6), spaces, st.booleans())
def test_plain_json_with_plain_keys_is_always_accepted(fields: dict[str, object], space: str, plain: bool) -> None:
    raw = (space + json.dumps(fields, ensure_ascii=plain) + space).encode()
    body = read_body(raw)
    assert {name: body.value(name) for name in body.fields} == fields
