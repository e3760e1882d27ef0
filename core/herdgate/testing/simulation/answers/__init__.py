"""From a request to the reply Ollama would give: no network, no waiting. One module per group of paths."""
