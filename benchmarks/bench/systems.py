"""What is compared, and how each of it is started in front of one backend."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from bench.native import CACHE, PEERS, NotInstalledError

LITELLM = "1.106.2"
HERDGATE, NGINX, DIRECT = "Herdgate", "nginx", "direct"
MODELS = ("bench-0-0", "bench-200-0", "bench-50-20", "bench-100-20", "bench-150-20")

_ROOT = Path(__file__).parents[2]
_KEY = "sk-benchmark"  # LiteLLM wants one, and it is sent to LiteLLM alone


@dataclass(frozen=True)
class System:
    """A program to measure: how it is started, and how it is asked. Without a command it runs already."""

    name: str
    port: int
    folder: Path
    command: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    path: str = "/api/chat"
    headers: tuple[str, ...] = ()
    beside: tuple[tuple[str, ...], ...] = ()
    """Commands of what stands between it and the backend and is not measured."""
    patience: float = 30.0
    """Seconds it has to answer a first request."""


@dataclass(frozen=True)
class Place:
    """Where a system is set up: a folder of its own, its port, and the port of the backend."""

    folder: Path
    port: int
    backend: int

    def write(self, name: str, **values: str) -> str:
        """Fill in a file of `peers/`; the path of the result."""
        text = Template((PEERS / name).read_text())
        known = {"folder": str(self.folder), "port": str(self.port), "backend": str(self.backend)}
        path = self.folder / name
        path.write_text(text.substitute(known | values))
        return str(path)


def free_port() -> int:
    """A port of the loopback interface that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environ() -> dict[str, str]:
    """The environment without what would configure the systems from outside, or send their requests elsewhere."""
    foreign = ("HERDGATE_", "OLLAMA_", "LITELLM_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(foreign)}


def proxyctl() -> Path:
    """The command of this Python environment, of the checkout's, or of the search path. Raises NotInstalledError."""
    candidates = [Path(sys.executable).parent / "proxyctl", _ROOT / ".venv" / "bin" / "proxyctl"]
    if found := shutil.which("proxyctl"):
        candidates.append(Path(found))
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise NotInstalledError("proxyctl is not installed: make serve, or pip install .")


def herdgate_environ(folder: Path, port: int, backends: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Settings of a gateway that knows nothing else; without a plugins.toml it runs its full built-in list."""
    return clean_environ() | {
        "OLLAMA_BACKENDS": json.dumps(list(backends)),
        "HERDGATE_PORT": str(port),
        "HERDGATE_STATE": f"sqlite://{folder}/state.db",
    }


def _direct(place: Place) -> System:
    return System(DIRECT, place.backend, place.folder)


def nginx(place: Place, protocol: str = "http", encryption: str = "") -> System:
    """nginx in front of one backend; `encryption` are its directives about a backend that is asked by https."""
    # Its worker would otherwise run as a user who may not write into the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    config = place.write("nginx.conf", user=user, protocol=protocol, encryption=encryption)
    command = (program("nginx"), "-p", str(place.folder), "-c", config)
    return System(NGINX, place.port, place.folder, command, clean_environ())


def _haproxy(place: Place) -> System:
    command = (program("haproxy"), "-f", place.write("haproxy.cfg"))
    return System("HAProxy", place.port, place.folder, command, clean_environ())


def litellm_python() -> Path:
    """The Python of LiteLLM's own environment, whether it exists or not."""
    return CACHE / f"litellm-{LITELLM}" / "bin" / "python"


def _litellm(place: Place) -> System:
    if not litellm_python().exists():
        raise NotInstalledError("LiteLLM is not installed: --install-peers puts it into an environment of its own")
    backend = {"api_base": f"http://127.0.0.1:{place.backend}/v1", "api_key": "unused"}
    models = [{"model_name": name, "litellm_params": {"model": f"openai/{name}", **backend}} for name in MODELS]
    config = place.write("litellm.yaml", models=json.dumps(models), key=_KEY)
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = (str(litellm_python().with_name("litellm")), "--config", config, "--host", "127.0.0.1", "--port")
    return System(
        "LiteLLM",
        place.port,
        place.folder,
        (*command, str(place.port)),
        clean_environ() | quiet,
        path="/v1/chat/completions",
        headers=(f"Authorization: Bearer {_KEY}",),
        patience=120.0,
    )


def _control(place: Place) -> System:
    python = proxyctl().with_name("python")
    command = (str(python), str(PEERS / "sanic_httpx.py"), str(place.port), f"http://127.0.0.1:{place.backend}")
    return System("Sanic + httpx", place.port, place.folder, command, clean_environ())


def herdgate(place: Place) -> System:
    """Herdgate as it comes, in front of one backend."""
    backends = [{"name": "only", "base_url": f"http://127.0.0.1:{place.backend}"}]
    environ = herdgate_environ(place.folder, place.port, backends)
    return System(HERDGATE, place.port, place.folder, (str(proxyctl()), "serve"), environ)


Recipe = Callable[[Place], System]
"""How a system is set up in its place, ready to start. Raises NotInstalledError."""

RECIPES: Mapping[str, Recipe] = {
    DIRECT: _direct,
    NGINX: nginx,
    "HAProxy": _haproxy,
    "LiteLLM": _litellm,
    "Sanic + httpx": _control,
    HERDGATE: herdgate,
}


def program(name: str) -> str:
    """The path of an installed program; servers are often outside of the search path. Raises NotInstalledError."""
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"])
    if not (found := shutil.which(name, path=search)):
        raise NotInstalledError(f"{name} is not installed: apt-get install {name}")
    return found


def install_litellm() -> None:
    """Put the pinned version into a virtual environment in the cache, if it is not there yet."""
    python = litellm_python()
    if python.with_name("litellm").exists():
        return
    subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"litellm[proxy]=={LITELLM}"], check=True)
