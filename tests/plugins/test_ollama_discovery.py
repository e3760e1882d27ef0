import httpx
import pytest
from pytest_httpx import HTTPXMock

from herdgate_plugins.ollama_discovery import OllamaDiscovery

TAGS = "http://gpu1:11434/ollama/api/tags"


async def names() -> list[str]:
    async with httpx.AsyncClient(base_url="http://gpu1:11434/ollama") as client:
        return [entry.name.display for entry in await OllamaDiscovery().list_models(client)]


async def test_it_lists_what_the_server_has(httpx_mock: HTTPXMock) -> None:
    entry = {"name": "llama3:latest", "model": "llama3:latest", "digest": "ab" * 32, "size": 7}
    httpx_mock.add_response(url=TAGS, json={"models": [entry, {"model": "hf.co/Org/Repo:Q4"}]})
    assert await names() == ["llama3:latest", "hf.co/Org/Repo:Q4"]


async def test_a_server_without_models_has_an_empty_list(httpx_mock: HTTPXMock) -> None:
    httpx_mock.add_response(url=TAGS, json={"models": []})
    assert await names() == []


async def test_an_entry_that_names_no_model_hides_no_other(httpx_mock: HTTPXMock) -> None:
    broken: list[object] = [None, 7, {}, {"name": ""}, {"name": 7}, {"name": "a b"}, []]
    httpx_mock.add_response(url=TAGS, json={"models": [*broken, {"name": "llama3"}, *broken]})
    assert await names() == ["llama3:latest"]


@pytest.mark.parametrize("body", [b"{}", b'{"models":null}', b'{"models":{}}', b"[]", b"null", b"", b"<html>", b"\xff"])
async def test_a_reply_that_is_no_list_of_models_is_an_error_and_not_an_empty_list(
    httpx_mock: HTTPXMock, body: bytes
) -> None:
    httpx_mock.add_response(url=TAGS, content=body)
    with pytest.raises(ValueError, match=r"list of models|Expecting value|decode"):
        await names()


@pytest.mark.parametrize("status", [301, 401, 403, 404, 500, 503])
async def test_an_error_status_is_an_error(httpx_mock: HTTPXMock, status: int) -> None:
    httpx_mock.add_response(url=TAGS, status_code=status, json={"models": []})
    with pytest.raises(httpx.HTTPStatusError):
        await names()


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("silent")])
async def test_what_the_connection_says_is_passed_on(httpx_mock: HTTPXMock, error: httpx.HTTPError) -> None:
    httpx_mock.add_exception(error)
    with pytest.raises(type(error)):
        await names()
