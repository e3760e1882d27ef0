"""A gateway in front of several Ollama servers whose every decision is a plugin."""
