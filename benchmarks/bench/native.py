"""The two C programs, compiled on first use."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "native"
PEERS = Path(__file__).parents[1] / "peers"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "herdgate-bench"


class NotInstalledError(Exception):
    """Something that the benchmark needs is not installed, or cannot be used; the message says what to do."""


def compiled(name: str) -> Path:
    """The program `backend` or `client`. It is compiled again when a source has changed. Raises NotInstalledError."""
    sources = sorted(SOURCES.glob("*.[ch]"))
    version = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    program = CACHE / f"{name}-{version}"
    if not program.exists():
        if not (compiler := shutil.which("gcc")):
            raise NotInstalledError("gcc is not installed: apt-get install gcc")
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = CACHE / f"{name}-{os.getpid()}"  # another run may do the same at this moment
        command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(unfinished), str(SOURCES / f"{name}.c")]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise NotInstalledError(f"{name}.c does not compile here:\n{result.stderr}")
        unfinished.rename(program)
    return program
