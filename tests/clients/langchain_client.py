"""LangChain's Ollama package as a client of a gateway: `python langchain_client.py URL KEY`."""

import sys

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from ollama import Client, ResponseError

URL, KEY = sys.argv[1:]
KNOWN = {"base_url": URL, "client_kwargs": {"headers": {"Authorization": f"Bearer {KEY}"}}}
SAID = "Hello from simulated backend first. You said: hi"


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


names = {model.model for model in Client(URL, headers={"Authorization": f"Bearer {KEY}"}).list().models}
assert "llama3.2:latest" in names, names
print(f"list: {sorted(names)}")
chat = ChatOllama(model="llama3.2", validate_model_on_init=True, **KNOWN)
said = chat.invoke([HumanMessage("hi")])
assert said.content == SAID, said
print(f"chat: {said.content} {said.usage_metadata}")
parts = [part.content for part in chat.stream("hi")]
assert "".join(parts) == SAID, parts
print(f"stream: {len(parts)} parts")
completed = OllamaLLM(model="llama3.2", **KNOWN).invoke("hi")
assert completed == SAID, completed
print(f"completion: {completed}")
(call,) = ChatOllama(model="tools", **KNOWN).bind_tools([weather]).invoke("hi").tool_calls
assert (call["name"], call["args"]) == ("weather", {"city": "Paris"}), call
print(f"tools: {call['name']}({call['args']})")
vectors = OllamaEmbeddings(model="nomic-embed-text", **KNOWN).embed_documents(["a", "b"])
assert [len(vector) for vector in vectors] == [16, 16]
print(f"embeddings: {[len(vector) for vector in vectors]}")
try:
    ChatOllama(model="no-such-model", **KNOWN).invoke("hi")
    raise AssertionError("no error for a model that does not exist")
except ResponseError as error:
    assert (error.status_code, error.error) == (403, "access to this model is not allowed"), error
    print(f"error: {type(error).__name__} {error.status_code}: {error.error}")
