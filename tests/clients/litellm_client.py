"""LiteLLM as a client of a gateway: `python litellm_client.py URL KEY`."""

import asyncio
import os
import sys

URL, KEY = sys.argv[1:]
os.environ.update(OLLAMA_API_BASE=URL, OLLAMA_API_KEY=KEY, LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_LOG="ERROR")

import litellm  # noqa: E402

litellm.suppress_debug_info = True
HI = [{"role": "user", "content": "hi"}]
WEATHER = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
NATIVE = {"api_base": URL, "api_key": KEY}
OPENAI = {"api_base": f"{URL}/v1", "api_key": KEY, "max_retries": 0}
ANTHROPIC = {"api_base": URL, "api_key": KEY, "max_retries": 0}
WAYS = {"ollama_chat": NATIVE, "openai": OPENAI, "anthropic": ANTHROPIC}


async def main() -> None:
    for way, options in WAYS.items():
        whole = await litellm.acompletion(f"{way}/llama3.2", HI, max_tokens=50, **options)
        text = whole.choices[0].message.content
        assert text == "Hello from simulated backend first. You said: hi", text
        print(f"{way} chat: {text}")
        stream = await litellm.acompletion(f"{way}/llama3.2", HI, max_tokens=50, stream=True, **options)
        parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(parts) == text, parts
        print(f"{way} stream: {len(parts)} parts")
        try:
            await litellm.acompletion(f"{way}/no-such-model", HI, max_tokens=50, **options)
            raise AssertionError("no error for a model that does not exist")
        except litellm.exceptions.APIError as error:
            kind, status, text = type(error).__name__, error.status_code, str(error)
        except Exception as error:  # LiteLLM's classes have no common base
            kind, status, text = type(error).__name__, getattr(error, "status_code", None), str(error)
        assert "access to this model is not allowed" in text, text
        print(f"{way} error: {kind} {status}: {text[:100]}")
    for way, model in (("ollama_chat", "tools"), ("openai", "tools")):
        called = await litellm.acompletion(f"{way}/{model}", HI, tools=WEATHER, **WAYS[way])
        (call,) = called.choices[0].message.tool_calls
        assert (call.function.name, "Paris" in call.function.arguments) == ("weather", True), call
        print(f"{way} tools: {call.function.name}({call.function.arguments})")
    for way, options in (("ollama", NATIVE), ("openai", OPENAI)):
        vectors = await litellm.aembedding(f"{way}/nomic-embed-text", ["a", "b"], **options)
        sizes = [len(entry["embedding"]) for entry in vectors.data]
        assert sizes == [16, 16], sizes
        print(f"{way} embeddings: {sizes}")
    names = litellm.get_valid_models(
        check_provider_endpoint=True, custom_llm_provider="openai", api_base=f"{URL}/v1", api_key=KEY
    )
    assert any("llama3.2" in name for name in names), names
    print(f"openai list: {sorted(names)}")


asyncio.run(main())
