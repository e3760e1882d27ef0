"""Pure builders of what Ollama writes, one module per dialect. Facts: Ollama 0.33."""
