"""Compare proxies side by side on one machine. `run.py` is the command; README.md tells how to run it and read it."""
