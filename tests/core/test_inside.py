import pytest

from herdgate.inside import is_path, redacted

BACKENDS = ("http://gpu-box-7:11434", "https://ollama.example.com/team", "http://ollama:11434", "http://10.0.0.5:1")


@pytest.mark.parametrize(
    ("said", "passed_on"),
    [
        ('Post "http://10.0.0.7:43521/completion": EOF', 'Post "…": EOF'),
        ("dial tcp 127.0.0.1:43521: connect: connection refused", "dial tcp …: connect: connection refused"),
        ("dial tcp [fd00::7]:43521: refused", "dial tcp …: refused"),
        ("open /root/.ollama/models/blobs/sha256-ab: no such file", "open … no such file"),
        (r"open C:\Users\me\.ollama\x.gguf failed", "open … failed"),
        ("dial tcp: lookup other-box on 10.0.0.1:53: no such host", "dial tcp: lookup … on …: no such host"),
        ("cannot reach worker3:50051, giving up", "cannot reach …, giving up"),
        ("cannot reach gpu.node.internal, giving up", "cannot reach …, giving up"),
        ("cannot reach GPU-BOX-7, giving up", "cannot reach …, giving up"),
        ("proxy ollama.example.com: bad gateway", "proxy …: bad gateway"),
    ],
)
def test_addresses_hosts_and_paths_stay_inside(said: str, passed_on: str) -> None:
    assert redacted(said, BACKENDS) == passed_on


@pytest.mark.parametrize(
    "said",
    [
        "use either and/or, 1/2",
        "version 0.32.15 is too old",
        "model 'hf.co/org/repo:Q4' not found",
        "registry.ollama.ai/library/llama3.2:latest does not support insert",
        'model "qwen3:8b" not found, try pulling it first',
        "model 'm:2024' is not local",
        "check ollama server logs for details",
        "my-gpu-box-7x is another name",
        'option "num_ctx" must be of type integer',
    ],
)
def test_what_a_caller_needs_stays(said: str) -> None:
    assert redacted(said, BACKENDS) == said


@pytest.mark.parametrize("text", ["/usr/share/x", "C:\\models\\x", "c:/models/x"])
def test_a_path_is_known(text: str) -> None:
    assert is_path(text)


@pytest.mark.parametrize("text", ["", "/", "llama3.2:latest", "hf.co/org/repo", "a/b"])
def test_a_name_is_no_path(text: str) -> None:
    assert not is_path(text)
