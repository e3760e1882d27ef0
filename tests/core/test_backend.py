import pickle
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from ollama import ListResponse
from openai.types import Model as OpenAIModel
from pydantic import SecretStr, ValidationError

from herdgate.backend import Backend, BackendSettings, Candidate, ModelEntry
from herdgate.names import InvalidModelName

FULL = {
    "name": "ns/Thinker:8B",
    "model": "ns/Thinker:8B",
    "modified_at": "2026-11-23T14:14:19.66260905Z",
    "size": 868,
    "digest": "ab" * 32,
    "details": {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "1B",
        "quantization_level": "Q4_0",
        "context_length": 8192,
    },
    "capabilities": ["completion", "tools"],
}


def settings(**given: object) -> BackendSettings:
    return BackendSettings.model_validate({"name": "gpu1", "base_url": "http://gpu1:11434", **given})


class TestSettings:
    def test_the_defaults_are_those_of_the_contract(self) -> None:
        backend = settings()
        assert backend.auth_token is None
        assert backend.headers == {}
        assert backend.enabled
        assert backend.max_concurrency is None
        assert (backend.connect_timeout, backend.first_event_timeout, backend.idle_timeout) == (3.0, 600.0, 300.0)
        assert backend.verify
        assert (backend.ca_file, backend.client_cert, backend.client_key, backend.host_header) == (None,) * 4
        assert not backend.cloud
        assert backend.tags == ()

    @pytest.mark.parametrize("name", ["a", "GPU-1", "gpu_1", "0", "x" * 63])
    def test_names(self, name: str) -> None:
        assert settings(name=name).name == name

    @pytest.mark.parametrize("name", ["", "-a", "_a", "a b", "a.b", "a/b", "é", "a\n", "x" * 64, 5, None])
    def test_bad_names(self, name: object) -> None:
        with pytest.raises(ValidationError):
            settings(name=name)

    def test_an_empty_token_is_none(self) -> None:
        assert settings(auth_token=" ").auth_token is None

    def test_a_token_and_an_authorization_header_exclude_each_other(self) -> None:
        with pytest.raises(ValidationError, match="not both"):
            settings(auth_token="t", headers={"authorization": "Basic eDp5"})
        assert settings(headers={"Authorization": "Basic eDp5"}).headers

    @pytest.mark.parametrize(
        "given",
        [
            {"unknown": 1},
            {"max_concurrency": 0},
            {"max_concurrency": True},
            {"model_concurrency": {"llama3": 0}},
            {"model_concurrency": {"lla[ma": 1}},
            {"model_concurrency": 4},
            {"connect_timeout": 0},
            {"idle_timeout": "soon"},
            {"verify": "perhaps"},
            {"host_header": "a b"},
            {"tags": [""]},
            {"tags": "fast"},
        ],
    )
    def test_bad_values(self, given: dict[str, object]) -> None:
        with pytest.raises(ValidationError):
            settings(**given)

    def test_durations_may_be_texts(self) -> None:
        assert settings(first_event_timeout="10m").first_event_timeout == 600.0

    def test_plugins_see_no_credentials(self) -> None:
        configured = settings(
            auth_token="s3kr1t-token", headers={"X-Key": "s3kr1t-value"}, tags=["fast"], max_concurrency=2, cloud=True
        )
        view = configured.view()
        assert view == Backend("gpu1", "http://gpu1:11434", ("fast",), cloud=True, max_concurrency=2)
        assert "s3kr1t" not in f"{view} {configured!r} {configured}"

    def test_limits_of_models_keep_their_order(self) -> None:
        limits = settings(model_concurrency={"llama3.3:70b": 1, "*": 4}).view().model_concurrency
        assert [(pattern.text.rpartition("/")[2], limit) for pattern, limit in limits] == [
            ("llama3.3:70b", 1),
            ("*", 4),
        ]

    def test_a_refused_value_is_not_in_the_exception(self) -> None:
        with pytest.raises(ValidationError) as caught:
            settings(auth_token="s3kr1t with spaces", base_url="http://u:s3kr1t@gpu1", headers={"A:": "s3kr1t"})
        assert "s3kr1t" not in f"{caught.value} {caught.value!r}"

    def test_it_can_be_sent_to_another_process(self) -> None:
        configured = settings(auth_token="t", headers={"X-Key": "v"})
        assert pickle.loads(pickle.dumps(configured)) == configured  # noqa: S301


class TestFiles:
    @pytest.fixture
    def pem(self, tmp_path: Path) -> Path:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        client = authority.issue_cert("client@example.com")
        client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
        client.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        client.private_key_pem.write_to_path(tmp_path / "key.pem")
        authority.issue_cert("other@example.com").private_key_pem.write_to_path(tmp_path / "other.pem")
        (tmp_path / "empty.pem").touch()
        return tmp_path

    def read(self, directory: Path, **given: object) -> BackendSettings:
        values = {"name": "a", "base_url": "https://a", **given}
        return BackendSettings.model_validate(values, context={"directory": directory})

    def test_paths_are_relative_to_the_given_directory(self, pem: Path) -> None:
        assert self.read(pem, ca_file="ca.pem").ca_file == pem / "ca.pem"
        assert self.read(pem, client_cert="both.pem").client_cert == pem / "both.pem"
        assert self.read(pem, client_cert="cert.pem", client_key="key.pem").client_key == pem / "key.pem"

    @pytest.mark.parametrize(
        ("given", "reason"),
        [
            ({"ca_file": "none.pem"}, r"cannot read .*none\.pem: No such file"),
            ({"ca_file": "."}, "Is a directory"),
            ({"ca_file": "empty.pem"}, "no PEM certificate"),
            ({"client_cert": "cert.pem"}, "matching private key"),
            ({"client_cert": "cert.pem", "client_key": "other.pem"}, "matching private key"),
            ({"client_key": "key.pem"}, "client_key needs client_cert"),
        ],
    )
    def test_unusable_files_are_refused(self, pem: Path, given: dict[str, object], reason: str) -> None:
        with pytest.raises(ValidationError, match=reason):
            self.read(pem, **given)


class TestModelEntry:
    def test_a_full_entry_passes_through_unchanged(self) -> None:
        assert ModelEntry.from_tags(FULL).as_tags() == FULL

    def test_a_name_without_tag_gets_one_and_a_cloud_suffix_stays(self) -> None:
        assert ModelEntry.from_tags({"name": "m1"}).as_tags()["name"] == "m1:latest"
        assert ModelEntry.from_tags({"model": "gpt-oss:20b-cloud"}).as_tags()["model"] == "gpt-oss:20b-cloud"

    def test_a_digest_loses_its_prefix(self) -> None:
        assert ModelEntry.from_tags({"name": "m", "digest": "sha256:ab"}).digest == "ab"

    def test_the_openai_form(self) -> None:
        assert ModelEntry.from_tags(FULL).as_openai() == {
            "id": "ns/Thinker:8B",
            "object": "model",
            "created": 1795443259,
            "owned_by": "ns",
        }
        assert ModelEntry.from_tags({"name": "m"}).as_openai() == {
            "id": "m:latest",
            "object": "model",
            "created": 0,
            "owned_by": "library",
        }

    def test_times_compare_across_zones(self) -> None:
        early = ModelEntry.from_tags({"name": "m", "modified_at": "2026-01-01T12:00:00+02:00"})
        late = ModelEntry.from_tags({"name": "m", "modified_at": "2026-01-01T11:00:00Z"})
        assert early.modified_at > late.modified_at
        assert early.modified < late.modified

    @pytest.mark.parametrize("listed", [None, "m1", [], {}, {"name": 3}, {"name": ""}, {"name": None, "model": None}])
    def test_what_names_no_model_is_refused(self, listed: object) -> None:
        with pytest.raises(ValueError, match=r"entry of the model list|invalid model name"):
            ModelEntry.from_tags(listed)

    def test_an_invalid_name_is_told_apart(self) -> None:
        with pytest.raises(InvalidModelName):
            ModelEntry.from_tags({"name": "a b"})

    def test_it_is_hashable_and_so_is_a_candidate(self) -> None:
        entry = ModelEntry.from_tags(FULL)
        backend = settings().view()
        assert {Candidate(backend, entry)} == {Candidate(backend, ModelEntry.from_tags(dict(FULL)))}
        assert Candidate(backend, entry) != Candidate(backend, entry, gone=True)

    @hypothesis_settings(deadline=None)
    @given(
        st.fixed_dictionaries(
            {"name": st.just("m1:8b")},
            optional={
                key: st.none()
                | st.booleans()
                | st.integers()
                | st.text(max_size=30)
                | st.lists(st.integers(), max_size=2)
                | st.dictionaries(
                    st.sampled_from(
                        ["family", "families", "format", "parameter_size", "parent_model", "context_length"]
                    ),
                    st.none() | st.integers(0, 9) | st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=2),
                )
                for key in ("modified_at", "size", "digest", "details", "capabilities", "remote_host", "remote_model")
            },
        )
    )
    def test_real_clients_read_whatever_a_backend_lists(self, listed: dict[str, object]) -> None:
        entry = ModelEntry.from_tags(listed)
        model = ListResponse.model_validate({"models": [entry.as_tags()]}).models[0]
        assert model.model == "m1:8b"
        assert model.modified_at is not None
        assert model.details is not None
        assert model.details.family is not None
        assert OpenAIModel.model_validate(entry.as_openai()).created >= 0
        for key, kind in {"remote_host": str, "remote_model": str, "capabilities": list}.items():
            assert isinstance(entry.as_tags().get(key, kind()), kind)

    @hypothesis_settings(deadline=None)
    @given(st.text("0123456789-:.TZ+ tz", max_size=30) | st.datetimes().map(lambda time: time.isoformat() + "Z"))
    def test_a_time_that_clients_could_not_read_counts_as_unknown(self, written: str) -> None:
        entry = ModelEntry.from_tags({"name": "m", "modified_at": written})
        assert entry.as_tags()["modified_at"] in {written, "0001-01-01T00:00:00Z"}
        ListResponse.model_validate({"models": [entry.as_tags()]})


def test_secrets_in_headers_are_secrets() -> None:
    assert isinstance(settings(headers={"X-Key": "v"}).headers["X-Key"], SecretStr)
