import pytest

from herdgate.access import Action
from herdgate.surface import ENDPOINTS, Endpoint, Family, Treatment, family_of, find

OPEN, LOCAL, UNION = Treatment.OPEN, Treatment.LOCAL, Treatment.UNION
ROUTED, REFUSED = Treatment.ROUTED, Treatment.REFUSED


@pytest.mark.parametrize(
    ("path", "methods", "treatment", "action"),
    [
        ("/", "GET HEAD", OPEN, None),
        ("/healthz", "GET HEAD", OPEN, None),
        ("/readyz", "GET HEAD", OPEN, None),
        ("/api/version", "GET HEAD", LOCAL, None),
        ("/api/status", "GET", LOCAL, None),
        ("/api/tags", "GET HEAD", UNION, Action.SEE),
        ("/api/ps", "GET", UNION, Action.SEE),
        ("/v1/models", "GET", UNION, Action.SEE),
        ("/v1/models/llama3", "GET", UNION, Action.SEE),
        ("/v1/models/hf.co/org/repo:Q4", "GET", UNION, Action.SEE),
        ("/api/show", "POST", ROUTED, Action.SEE),
        ("/api/generate", "POST", ROUTED, Action.USE),
        ("/api/chat", "POST", ROUTED, Action.USE),
        ("/api/embed", "POST", ROUTED, Action.USE),
        ("/api/embeddings", "POST", ROUTED, Action.USE),
        ("/v1/chat/completions", "POST", ROUTED, Action.USE),
        ("/v1/completions", "POST", ROUTED, Action.USE),
        ("/v1/embeddings", "POST", ROUTED, Action.USE),
        ("/v1/responses", "POST", ROUTED, Action.USE),
        ("/v1/messages", "POST", ROUTED, Action.USE),
        ("/v1/messages/count_tokens", "POST", Treatment.COUNTED, Action.USE),
        ("/v1/audio/transcriptions", "POST", ROUTED, Action.USE),
        ("/api/pull", "POST", REFUSED, Action.MANAGE),
        ("/api/push", "POST", REFUSED, Action.MANAGE),
        ("/api/create", "POST", REFUSED, Action.MANAGE),
        ("/api/copy", "POST", REFUSED, Action.MANAGE),
        ("/api/delete", "DELETE", REFUSED, Action.MANAGE),
        ("/api/blobs/sha256-12", "HEAD POST", REFUSED, Action.MANAGE),
    ],
)
def test_a_path_is_answered_as_the_contract_says(
    path: str, methods: str, treatment: Treatment, action: Action | None
) -> None:
    endpoint = find(path)
    assert endpoint is not None
    assert (set(endpoint.methods), endpoint.treatment, endpoint.action) == (set(methods.split()), treatment, action)


@pytest.mark.parametrize(
    "path", ["/api/me", "/api/signout", "/api/user/keys/abc", "/api/experimental/web_search", "/api/experimental/x/y"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def test_accounts_and_experiments_are_refused_whatever_the_method(path: str, method: str) -> None:
    endpoint = find(path)
    assert endpoint is not None
    assert endpoint.treatment is REFUSED
    assert method in endpoint.methods


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/nothing",
        "/api",
        "/api/",
        "/api/chat/",
        "//api/chat",
        "/api//chat",
        "/API/chat",
        "/api/chat%20",
        "/api/%63hat",
        "/api/./chat",
        "/api/blobs/",
        "/api/user/",
        "/v1/models/",
        "/v1/modelsx",
        "/api/web_search",
    ],
)
def test_a_path_that_needs_normalising_is_unknown(path: str) -> None:
    assert find(path) is None


@pytest.mark.parametrize(
    ("path", "streams"),
    [
        ("/api/generate", True),
        ("/api/chat", True),
        ("/api/embed", None),
        ("/api/embeddings", None),
        ("/api/show", None),
        ("/v1/chat/completions", False),
        ("/v1/completions", False),
        ("/v1/embeddings", None),
        ("/v1/responses", False),
        ("/v1/messages", False),
        ("/v1/messages/count_tokens", None),
        ("/v1/audio/transcriptions", None),
    ],
)
def test_an_absent_stream_means_what_it_means_to_the_family(path: str, streams: bool | None) -> None:
    endpoint = find(path)
    assert endpoint is not None
    assert endpoint.streams is streams


@pytest.mark.parametrize(
    ("path", "family"),
    [
        ("/api/chat", Family.OLLAMA),
        ("/v1/chat/completions", Family.OPENAI),
        ("/v1/messages", Family.ANTHROPIC),
        ("/v1/messages/count_tokens", Family.ANTHROPIC),
        ("/v1/anything", Family.OPENAI),
        ("/anything", Family.OLLAMA),
        ("/", Family.OLLAMA),
    ],
)
def test_an_error_has_the_shape_of_its_paths_family(path: str, family: Family) -> None:
    assert family_of(path) is family


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_the_table_agrees_with_itself(endpoint: Endpoint) -> None:
    below = f"{endpoint.path}x" if endpoint.prefix else endpoint.path
    assert find(below) is endpoint
    assert endpoint.family is family_of(below)
    assert endpoint.prefix == (endpoint.path.endswith("/") and endpoint.path != "/")
    assert bool(endpoint.model_fields) == (endpoint.treatment in {ROUTED, Treatment.COUNTED})
    assert (endpoint.action is None) == (endpoint.treatment in {OPEN, LOCAL})


def test_names_and_paths_are_unique() -> None:
    assert len({endpoint.name for endpoint in ENDPOINTS}) == len(ENDPOINTS)
    assert len({endpoint.path for endpoint in ENDPOINTS}) == len(ENDPOINTS)


def test_streams_with_a_terminal_event_are_those_of_server_sent_events() -> None:
    sse = {"chat_completions", "completions", "responses", "messages"}
    assert {endpoint.name for endpoint in ENDPOINTS if endpoint.terminals} == sse


def test_the_legacy_name_of_show_counts_only_after_the_model() -> None:
    endpoint = find("/api/show")
    assert endpoint is not None
    assert endpoint.model_fields == ("model", "name")
