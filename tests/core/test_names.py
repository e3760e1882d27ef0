import contextlib
import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from herdgate import names
from herdgate.names import InvalidModelName, ModelName, ModelPattern

LETTERS = "abcXYZ019_"
words = st.text(LETTERS, min_size=1, max_size=6)
inner = st.text(LETTERS + "-.", max_size=8)
models = st.builds(lambda a, b: a + b, words, inner)
namespaces = st.builds(lambda a, b: a + b.replace(".", "-"), words, inner)
tags = models.filter(lambda t: not re.search(r"(?i)(^|-)(local|cloud)$", t))
hosts = st.builds(lambda a, b: a + "." + b, words, words) | st.builds(lambda a: f"{a}:5000", words)
sources = st.sampled_from(["", "local", "cloud"])
valid_names = st.builds(
    ModelName, hosts | st.just("registry.ollama.ai"), namespaces | st.just("library"), models, tags, sources
)


def key(text: str) -> str:
    return ModelName.parse(text).key


def matches(pattern: str, name: str) -> bool:
    return ModelPattern.parse(pattern).matches(ModelName.parse(name))


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    [
        "m1",
        "M1:LATEST",
        "library/m1",
        "Library/M1:latest",
        "registry.ollama.ai/library/m1",
        "REGISTRY.ollama.AI/library/m1:latest",
        "http://registry.ollama.ai/library/m1",
        "https+insecure://registry.ollama.ai/library/m1:latest",
        "m1:local",
        "m1:LOCAL",
        "m1:latest:local",
        " m1 ",
        "\t\r\n\x85\u3000m1\u2028",
    ],
)
def test_every_spelling_of_a_model_has_one_key(spelling: str) -> None:
    assert key(spelling) == "registry.ollama.ai/library/m1:latest"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf.co/org/repo-GGUF:Q4_K_M", ("hf.co", "org", "repo-GGUF", "Q4_K_M")),
        ("registry:5000/ns/m", ("registry:5000", "ns", "m", "latest")),
        ("registry:5000/ns/m:8b", ("registry:5000", "ns", "m", "8b")),
        ("ns/Thinker:8B", ("registry.ollama.ai", "ns", "Thinker", "8B")),
        ("http://localhost:5000/ns/m", ("localhost:5000", "ns", "m", "latest")),
        ("cloud", ("registry.ollama.ai", "library", "cloud", "latest")),
        ("ns/my-cloud", ("registry.ollama.ai", "ns", "my-cloud", "latest")),
        ("host:5000/ns/m-cloud", ("host:5000", "ns", "m-cloud", "latest")),
        ("_m", ("registry.ollama.ai", "library", "_m", "latest")),
    ],
)
def test_a_name_is_split_from_the_right_and_keeps_its_spelling(text: str, parts: tuple[str, ...]) -> None:
    name = ModelName.parse(text)
    assert (name.host, name.namespace, name.model, name.tag) == parts


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the model is empty"),
        ("   ", "the model is empty"),
        ("m:", "the tag is empty"),
        (":8b", "the model is empty"),
        ("ns/", "the model is empty"),
        ("/m", "the namespace is empty"),
        ("host//m", "the namespace is empty"),
        ("http://m", "the namespace is empty"),
        ("http:///ns/m", "the host is empty"),
        ("_x://registry.ollama.ai/library/m", "the host may hold only"),
        ("a:http:///library/m", "the host may hold only"),
        ("http://http://host/ns/m", "the host may hold only"),
        ("/ns/m", "the host is empty"),
        ("../m", "the namespace may hold only"),
        ("hf.co/m", "the namespace may hold only"),
        ("a b", "the model may hold only"),
        ("a:b:c", "the model may hold only"),
        ("-m", "begins with a letter"),
        ("m:.8b", "begins with a letter"),
        ("m\n1", "the model may hold only"),
        ("m1\x00", "the model may hold only"),
        ("\x1cm1", "the model may hold only"),
        ("mödel", "the model may hold only"),
        ("m\uff11", "the model may hold only"),
        ("llama\u017f", "the model may hold only"),
        ("\ud800", "the model may hold only"),
        ("m*", "the model may hold only"),
        ("m@sha256:" + "0" * 64, "the model may hold only"),
        ("sha256:" + "0" * 81, "the tag is longer than 80"),
        ("a/b/c/d", "the host may hold only"),
        ("x" * 81, "the model is longer than 80"),
        ("x" * 81 + "/m", "the namespace is longer than 80"),
        ("m:" + "x" * 81, "the tag is longer than 80"),
        ("h" * 351 + "/ns/m", "the host is longer than 350"),
        ("a/" * 9000, "it is too long"),
    ],
)
def test_a_text_outside_the_grammar_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidModelName, match="^invalid model name: .*" + re.escape(reason)):
        ModelName.parse(text)


@pytest.mark.parametrize(
    ("text", "part", "longest"),
    [
        ("x" * 80, "model", 80),
        ("x" * 80 + "/m", "namespace", 80),
        ("m:" + "x" * 80, "tag", 80),
        ("m:" + "x" * 80 + "-cloud", "tag", 80),
        ("https://" + "h" * 350 + "/ns/m", "host", 350),
    ],
)
def test_the_longest_parts_are_accepted(text: str, part: str, longest: int) -> None:
    assert len(getattr(ModelName.parse(text), part)) == longest


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("m1:local:cloud", "use either :local or :cloud"),
        ("m1:cloud:local", "use either :local or :cloud"),
        ("m1:local-cloud", "use either :local or :cloud"),
        ("m1:cloud:cloud", "use either :local or :cloud"),
        ("m1:8b-cloud:local", "use either :local or :cloud"),
        ("m1:8b-cloud-cloud", "use either :local or :cloud"),
        ("m1:-cloud", "the tag is empty"),
        ("m1::cloud", "the tag is empty"),
        (":cloud", "the model is empty"),
    ],
)
def test_a_second_source_suffix_or_one_with_nothing_before_it_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidModelName, match=re.escape(reason)):
        ModelName.parse(text)


@pytest.mark.parametrize("tag", ["cloud", "Cloud", "local", "8b-cloud", "8b-CLOUD"])
def test_no_name_can_be_made_whose_tag_hides_a_source_suffix(tag: str) -> None:
    with pytest.raises(InvalidModelName, match="use either"):
        ModelName("registry.ollama.ai", "library", "m", tag)


@pytest.mark.parametrize(
    "spelling",
    ["x:8b-cloud", "x:8b:cloud", "X:8B-Cloud", "library/x:8b:CLOUD", "https://registry.ollama.ai/library/x:8b-cloud"],
)
def test_both_spellings_of_a_cloud_model_have_the_key_under_which_its_stub_is_listed(spelling: str) -> None:
    name = ModelName.parse(spelling)
    assert name.key == "registry.ollama.ai/library/x:8b-cloud"
    assert (name.tag.lower(), name.source) == ("8b", "cloud")


@pytest.mark.parametrize("spelling", ["x:cloud", "x:latest-cloud", "x:Latest-Cloud", "x:latest:cloud"])
def test_a_cloud_model_without_a_tag_of_its_own_is_x_cloud(spelling: str) -> None:
    assert ModelName.parse(spelling).key == "registry.ollama.ai/library/x:cloud"
    assert ModelName.parse(spelling).display == "x:cloud"


@given(valid_names)
def test_a_cloud_name_never_shares_its_key_with_the_local_model(name: ModelName) -> None:
    local = ModelName(name.host, name.namespace, name.model, name.tag)
    cloud = ModelName(name.host, name.namespace, name.model, name.tag, "cloud")
    assert local.key != cloud.key
    assert local != cloud


def test_names_are_equal_when_they_mean_the_same_model_from_the_same_source() -> None:
    assert ModelName.parse("M1") == ModelName.parse("library/m1:latest")
    assert len({ModelName.parse("M1"), ModelName.parse("m1:LATEST")}) == 1
    assert ModelName.parse("m1") != ModelName.parse("m1:local")  # the latter refuses a stub
    assert ModelName.parse("m1:local").key == ModelName.parse("m1").key


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("m1", "m1:latest"),
        ("Registry.Ollama.AI/LIBRARY/M1", "M1:latest"),
        ("registry.ollama.ai/ns/Thinker:8B", "ns/Thinker:8B"),
        ("hf.co/org/repo-GGUF:Q4_K_M", "hf.co/org/repo-GGUF:Q4_K_M"),
        ("hf.co/library/m", "hf.co/library/m:latest"),
        ("m1:local", "m1:latest"),
        ("gpt-oss:20b:cloud", "gpt-oss:20b-cloud"),
    ],
)
def test_the_display_form_is_the_shortest_and_always_has_a_tag(text: str, shown: str) -> None:
    assert ModelName.parse(text).display == shown


@given(valid_names)
@example(ModelName.parse("library/m:cloud"))
def test_reading_the_display_form_or_the_key_gives_the_same_model(name: ModelName) -> None:
    assert ModelName.parse(name.display).key == name.key
    assert ModelName.parse(name.key).key == name.key


@given(valid_names)
def test_case_never_matters_for_the_key(name: ModelName) -> None:
    assert ModelName.parse(name.display.swapcase()).key == name.key


GRAMMAR = re.compile(
    r"(((?P<scheme>[a-z][a-z0-9+.-]*://)?(?P<host>[a-z0-9_][a-z0-9_.:-]{0,349})/)?(?P<namespace>[a-z0-9_][a-z0-9_-]{0,79})/)?"
    r"(?P<model>[a-z0-9_][a-z0-9_.-]{0,79})"
    r"(:(?P<tag>[a-z0-9_][a-z0-9_.-]{0,79}))?",
    re.IGNORECASE | re.ASCII,
)


def as_the_grammar_says(text: str) -> str | None:
    cut = re.fullmatch("(?is)(.*)(:local|:cloud)|(.*:[^/:]*)(-cloud)", text)
    base, suffix = (cut[1] or cut[3] or "", cut[2] or cut[4]) if cut else (text, "")
    found = GRAMMAR.fullmatch(base)
    if not found:
        return None
    tag = (found["tag"] or "latest").lower()
    if re.fullmatch("local|cloud|.*-cloud", tag):
        return None
    if suffix.lower().endswith("cloud"):
        tag = "cloud" if tag == "latest" else f"{tag}-cloud"
    return f"{found['host'] or 'registry.ollama.ai'}/{found['namespace'] or 'library'}/{found['model']}:{tag}".lower()


scraps = [
    "m",
    "M1",
    "a.b",
    "ns-x",
    "host:5000",
    "latest",
    "local",
    "cloud",
    "Cloud",
    "8b",
    "-cloud",
    "é",
    "_",
    "x" * 80,
]
scraps += ["h" * 350, "", " ", "http:", "https://", "/", "/", ":", ":", "@", "*", "\x00", "\u212a", "\u017f", "library"]


@settings(max_examples=500)
@given(st.lists(st.sampled_from(scraps), max_size=8).map("".join).map(lambda text: text.strip()))
@example("a:b-cloud")
@example("a:local")
@example("K:\u212a-cloud")
@example("_x://host/ns/m")
def test_a_text_names_a_model_exactly_if_the_grammar_says_so(text: str) -> None:
    expected = as_the_grammar_says(text)
    if expected is None:
        with pytest.raises(InvalidModelName):
            ModelName.parse(text)
    else:
        assert ModelName.parse(text).key == expected


@given(st.text(max_size=30))
def test_no_text_whatever_does_more_than_be_refused(text: str) -> None:
    for parse in (ModelName.parse, ModelPattern.parse):
        with contextlib.suppress(InvalidModelName):
            parse(text)


def test_nothing_remembers_which_names_were_asked_for() -> None:
    """A name that is known already would be read faster, and its first question would tell that it exists."""
    assert not [name for name, value in vars(names).items() if hasattr(value, "cache_info")]


@given(valid_names)
def test_the_quick_way_to_read_a_name_is_the_long_one(name: ModelName) -> None:
    for text in (name.display, name.model, f"{name.namespace}/{name.model}", f"{name.model}:{name.tag}"):
        quick = names._read_plain(text)
        slow = names._read(text)
        fields = ("host", "namespace", "model", "tag", "source", "key", "display")
        assert quick is None or [getattr(quick, f) for f in fields] == [getattr(slow, f) for f in fields]


@pytest.mark.parametrize("text", ["m", "M:8b", "library/m", "Ns/m:LATEST", "cloud", "local/m:locally", "m-cloud:x"])
def test_a_plain_name_is_read_the_quick_way_and_is_like_any_other(text: str) -> None:
    quick, slow = names._read_plain(text), names._read(text)
    assert quick is not None
    assert type(quick) is ModelName
    assert (quick, hash(quick), repr(quick)) == (slow, hash(slow), repr(slow))
    assert quick.display == slow.display
    with pytest.raises(AttributeError):
        quick.key = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "text", ["m:local", "m:LOCAL", "m:cloud", "m:8b-Cloud", "m:xcloud", "host/ns/m", " m", "m:", ""]
)
def test_a_name_that_may_be_more_than_plain_is_read_the_long_way(text: str) -> None:
    assert names._read_plain(text) is None


# --- patterns ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("llama3", "llama3"),
        ("llama3", "Library/LLAMA3:latest"),
        ("LLAMA3", "llama3:local"),
        ("llama3:8b", "llama3:8B"),
        ("llama*", "llama3:latest"),
        ("llama*", "llama3:70b"),
        ("llama*", "llama"),
        ("library/llama*", "llama3:8b"),
        ("registry.ollama.ai/library/llama*", "llama3:8b"),
        ("llama*", "https://registry.ollama.ai/library/llama3:8b"),
        ("*:8b", "qwen:8b"),
        ("llama*:*b", "llama3:70b"),
        ("*/*", "ns/m:8b"),
        ("*/*", "m"),
        ("hf.co/*/*", "hf.co/org/repo-GGUF:Q4_K_M"),
        ("registry:5000/ns/m*", "registry:5000/ns/m1:8b"),
        ("registry:5000/ns/m", "registry:5000/ns/m:latest"),
        ("registry:*/ns/m", "registry:5000/ns/m:8b"),
        ("*", "m"),
        ("*", "hf.co/org/repo:tag"),
        ("*", "gpt-oss:20b-cloud"),
        ("gpt-oss*", "gpt-oss:cloud"),
        ("gpt-oss:*", "gpt-oss:20b:cloud"),
        ("gpt-oss:cloud", "gpt-oss:latest-cloud"),
        ("gpt*:latest-cloud", "gpt-oss:cloud"),
        ("gpt*:20b-cloud", "gpt-oss:20b:cloud"),
        ("a*b*c", "aXXbYYc"),
        ("a*b*c", "abbcbc"),
        ("a*b*b", "abb"),
        ("*:*b*b", "m:bb"),
    ],
)
def test_a_pattern_covers_the_model_however_either_is_spelled(pattern: str, name: str) -> None:
    assert matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("llama3", "llama3:8b"),
        ("llama3", "llama3:cloud"),
        ("llama3", "llama3:latest-cloud"),
        ("llama3:8b", "llama3:8b-cloud"),
        ("llama3:8b", "llama3:8b:cloud"),
        ("llama3:cloud", "llama3"),
        ("gpt*:cloud", "gpt-oss"),
        ("llama3", "ns/llama3"),
        ("llama3", "hf.co/library/llama3"),
        ("llama*", "ns/llama3"),
        ("llama*", "my-llama3"),
        ("*lama", "llama3"),
        ("*:8b", "ns/m:8b"),
        ("*:8b", "m:8b2"),
        ("*:*", "ns/m"),
        ("*/*", "hf.co/org/repo"),
        ("llama*:8b", "llama3"),
        ("llama.1", "llamaX1"),
        ("a*b*c", "acb"),
        ("ab*ba", "aba"),
        ("registry:5000/ns/m", "registry:5001/ns/m"),
        ("registry*/ns/m", "registry:5000/ns/other"),
    ],
)
def test_a_pattern_covers_nothing_else(pattern: str, name: str) -> None:
    assert not matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "the model is empty"),
        ("llama?", "the model may hold only"),
        ("llama[23]", "the model may hold only"),
        ("llama*:", "the tag is empty"),
        ("hf.co/*", "did you mean 'hf.co/*/*'?"),
        ("hf.co/llama", "did you mean 'hf.co/*/llama'?"),
        ("**", "write '*' once"),
        ("hf.co/**/*", "write '*' once"),
        ("llama*:local", "':local' is no tag"),
        ("*:8b:cloud", "the model may hold only"),
        ("*:local-cloud", "only once"),
        ("*@sha256:*", "the model may hold only"),
        ("*/*/*/*", "the host may hold only"),
        ("-*", "begins with"),
        ("x*" + "x" * 80, "longer than 80"),
        ("llama3:local:cloud", "use either :local or :cloud"),
    ],
)
def test_a_pattern_that_could_match_nothing_is_refused_with_the_reason(pattern: str, reason: str) -> None:
    with pytest.raises(InvalidModelName, match=re.escape(reason)) as refused:
        ModelPattern.parse(pattern)
    assert str(refused.value).startswith("invalid model pattern ")


def test_a_refused_pattern_of_any_length_makes_a_short_message() -> None:
    with pytest.raises(InvalidModelName) as refused:
        ModelPattern.parse("x" * 100_000)
    assert len(str(refused.value)) < 300


def test_equal_patterns_are_equal_whatever_their_spelling() -> None:
    same = {
        ModelPattern.parse(p) for p in ("llama*", "Library/LLAMA*", "registry.ollama.ai/library/llama*", "llama*:*")
    }
    assert len(same) == 1
    assert ModelPattern.parse("llama3") == ModelPattern.parse("llama3:latest")


def test_a_pattern_shows_its_canonical_form() -> None:
    assert ModelPattern.parse(" Llama* ").text == "registry.ollama.ai/library/llama*:*"
    assert ModelPattern.parse("*").text == "*"


@given(valid_names)
def test_every_name_is_a_pattern_for_itself_and_star_covers_it(name: ModelName) -> None:
    assert ModelPattern.parse(name.display).matches(name)
    assert ModelPattern.parse("*").matches(name)
    assert ModelPattern.parse("*/*/*").matches(name)


@given(valid_names, valid_names)
def test_a_plain_pattern_covers_exactly_the_names_with_its_key(pattern: ModelName, name: ModelName) -> None:
    assert ModelPattern.parse(pattern.display).matches(name) is (pattern.key == name.key)


globs = st.text("ab*", min_size=1, max_size=8).filter(lambda g: "**" not in g)


def slow_glob(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(slow_glob(pattern[1:], text[i:]) for i in range(len(text) + 1))
    return bool(text) and pattern[0] == text[0] and slow_glob(pattern[1:], text[1:])


@given(globs, globs, st.text("ab", min_size=1, max_size=10), st.text("ab", min_size=1, max_size=10))
def test_globs_agree_with_the_obvious_slow_matcher(model: str, tag: str, some_model: str, some_tag: str) -> None:
    expected = slow_glob(model, some_model) and slow_glob(tag, some_tag)
    assert matches(f"{model}:{tag}", f"{some_model}:{some_tag}") is expected


def test_a_hostile_pattern_costs_no_more_than_a_plain_one() -> None:
    stars = "*a" * 39 + "*b"
    pattern = ModelPattern.parse(f"{stars}:{stars}")
    name = ModelName.parse("a" * 80 + ":" + "a" * 80)
    started = time.perf_counter()
    assert not pattern.matches(name)
    assert time.perf_counter() - started < 1.0
