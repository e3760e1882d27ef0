"""The insides of `herdgate.testing.simulated`: what a simulated Ollama reads, decides, writes and remembers."""
