"""LlamaIndex's Ollama package as a client of a gateway: `python llama_index_client.py URL KEY`."""

import sys

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.ollama import Ollama
from ollama import Client, ResponseError

URL, KEY = sys.argv[1:]
HEADERS = {"Authorization": f"Bearer {KEY}"}
SAID = "Hello from simulated backend first. You said: hi"
HI = [ChatMessage(role="user", content="hi")]


def llm(model: str) -> Ollama:
    """One model behind the gateway."""
    return Ollama(model=model, base_url=URL, headers=HEADERS, request_timeout=30.0, context_window=4096)


def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


names = {model.model for model in Client(URL, headers=HEADERS).list().models}
assert "llama3.2:latest" in names, names
print(f"list: {sorted(names)}")
said = llm("llama3.2").chat(HI).message.content
assert said == SAID, said
print(f"chat: {said}")
parts = [part.delta or "" for part in llm("llama3.2").stream_chat(HI)]
assert "".join(parts) == SAID, parts
print(f"stream: {len(parts)} parts")
completed = str(llm("llama3.2").complete("hi"))
assert completed == SAID, completed
print(f"completion: {completed}")
caller = llm("tools")
reply = caller.chat_with_tools([FunctionTool.from_defaults(weather)], user_msg="hi")
(call,) = caller.get_tool_calls_from_response(reply)
assert (call.tool_name, call.tool_kwargs) == ("weather", {"city": "Paris"}), call
print(f"tools: {call.tool_name}({call.tool_kwargs})")
try:
    llm("no-such-model").chat(HI)
    raise AssertionError("no error for a model that does not exist")
except ResponseError as error:
    assert (error.status_code, error.error) == (403, "access to this model is not allowed"), error
    print(f"error: {type(error).__name__} {error.status_code}: {error.error}")
