"""Herdgate with more to do than it has as it comes, to be compared with itself: a key, encryption, a second process.

nginx with the same encryption stands beside it, to tell what that costs anybody.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.native import NotInstalledError
from bench.systems import (
    HERDGATE,
    NGINX,
    Place,
    Recipe,
    System,
    free_port,
    herdgate,
    herdgate_environ,
    nginx,
    program,
    proxyctl,
)

PHASES = ("c32", "p200")
"""What is measured of them: what a request costs more, and what a chunk costs more."""
_AT_MOST = 1.10
_NAME = "localhost"


@dataclass(frozen=True)
class Variant:
    """How it is set up, what the report calls it, and how much CPU it may take."""

    recipe: Recipe
    label: str
    promise: float | None = None
    """The most that is promised, as a multiple of what the plain one takes."""
    plain: str = HERDGATE
    """The system that it is a variant of."""


def _with_key(place: Place) -> System:
    """A key in the state is what makes the gateway protected: from then on a request without one is refused."""
    plain = herdgate(place)
    make = [str(proxyctl()), "keys", "create", "--name", f"bench-{place.port}", "--models", "*"]
    made = subprocess.run(make, cwd=place.folder, env=dict(plain.environ), capture_output=True, text=True, check=False)
    if made.returncode:
        raise NotInstalledError(f"no key could be made: {made.stderr.strip()}")
    return replace(plain, headers=(f"Authorization: Bearer {made.stdout.strip()}",))


def _with_tls(place: Place) -> System:
    port, pem, ends_tls = _encrypted(place)
    backends = [{"name": "only", "base_url": f"https://127.0.0.1:{port}", "ca_file": str(pem)}]
    return replace(herdgate(place), environ=herdgate_environ(place.folder, place.port, backends), beside=(ends_tls,))


def _nginx_with_tls(place: Place) -> System:
    """Checks the certificate as well, which nginx does by name only."""
    port, pem, ends_tls = _encrypted(place)
    checks = ("verify on", f"trusted_certificate {pem}", f"name {_NAME}")
    directives = " ".join(f"proxy_ssl_{check};" for check in checks)
    return replace(nginx(replace(place, backend=port), "https", directives), beside=(ends_tls,))


def _encrypted(place: Place) -> tuple[int, Path, tuple[str, ...]]:
    """What ends TLS in front of the backend, so that the proxy on trial alone pays for it on its core: the port, the
    certificate, and the command.
    """
    pem = certificate(place.folder)
    front = Place(place.folder, free_port(), place.backend)
    command = (program("haproxy"), "-f", front.write("tls.cfg", certificate=str(pem)))
    return front.port, pem, command


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody knows but this run, and beside it its key, where HAProxy looks for it."""
    pem, key = folder / "tls.pem", folder / "tls.pem.key"
    extensions = (f"subjectAltName=IP:127.0.0.1,DNS:{_NAME}", "keyUsage=critical,digitalSignature,keyCertSign")
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=bench"]
    added = [word for extension in extensions for word in ("-addext", extension)]
    command = [program("openssl"), "req", "-x509", *kind, *added, "-keyout", str(key), "-out", str(pem)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise NotInstalledError(f"openssl made no certificate: {made.stderr.strip()}")
    return pem


def _with_workers(place: Place) -> System:
    """Both on the one core, so that what they take together compares with one process."""
    plain = herdgate(place)
    return replace(plain, command=(*plain.command, "--workers", "2"))


VARIANTS: Mapping[str, Variant] = {
    f"{HERDGATE} + key": Variant(_with_key, "a key checked on every request", _AT_MOST),
    f"{HERDGATE} + TLS": Variant(_with_tls, "TLS towards the backend", _AT_MOST),
    f"{NGINX} + TLS": Variant(_nginx_with_tls, "nginx, for comparison: TLS towards the backend", plain=NGINX),
    f"{HERDGATE} + worker": Variant(_with_workers, "two worker processes on one core"),
}
"""By name."""
