"""The machine and the versions, for whoever reads the figures."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from bench.systems import DIRECT, HERDGATE, litellm_python, program, proxyctl
from bench.variants import VARIANTS

_VERSION = re.compile(r"\d+(?:\.\d+)+\S*(?: \+ \d\S*)?")


def description() -> str:
    """Processor, cores, memory, kernel, distribution."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    size = f"{os.cpu_count()} CPUs, {memory:.0f} GB"
    words = [_processor(), size, f"Linux {platform.release()}", _operating_system()]
    return ", ".join(word for word in words if word)


def versions(systems: list[str]) -> dict[str, str]:
    """Of the systems that were measured, and of what measured them."""
    python = proxyctl().with_name("python") if HERDGATE in systems else Path(sys.executable)
    found = {name: _version(_command(name)) for name in systems if name != DIRECT and name not in VARIANTS}
    if HERDGATE in found and (commit := _commit()):
        found[HERDGATE] += f" ({commit})"
    return found | {"Python": _version([str(python), "--version"]), "wrk": _version([program("wrk"), "-v"])}


def _command(system: str) -> list[str]:
    """What prints the version of a system that was measured, so that it is installed."""
    if system == HERDGATE:
        return [str(proxyctl()), "--version"]
    if system == "LiteLLM":
        return [str(litellm_python()), "-c", _distribution("litellm")]
    if system == "Sanic + httpx":
        return [str(proxyctl().with_name("python")), "-c", _distribution("sanic", "httpx")]
    return [program(system.lower()), "-v"]


def _distribution(*names: str) -> str:
    return f"import importlib.metadata as m; print(*map(m.version, {names!r}), sep=' + ')"


def _version(command: list[str]) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return "unknown"
    found = _VERSION.search(result.stdout + result.stderr)
    return found[0].rstrip(",;") if found else "unknown"


def _commit() -> str:
    """Of the checkout, with a + when files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return ""
    return result.stdout.strip()


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return ""
