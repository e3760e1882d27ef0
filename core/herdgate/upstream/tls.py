"""TLS contexts for connections to backends, built once and shared.

Building one reads the trusted certificates and takes 20 to 50 ms. That belongs where a backend is configured, not
where a request waits, and a hundred backends with the same settings need one context.
"""

import functools
import os
import ssl
from pathlib import Path
from typing import NamedTuple


class TlsConfigError(ValueError):
    """The TLS settings of a backend cannot be used. The message says which and why."""


class _File(NamedTuple):
    """A file and what tells that it has been replaced, by a renewed certificate for example."""

    path: str
    inode: int
    modified: int
    size: int

    @classmethod
    def of(cls, setting: str, path: str | os.PathLike[str]) -> "_File":
        try:
            stat = Path(path).stat()
        except OSError as error:
            raise TlsConfigError(f"{setting}: cannot read {path}: {error.strerror}") from error
        return cls(os.fspath(path), stat.st_ino, stat.st_mtime_ns, stat.st_size)


def tls_context(
    *,
    verify: bool = True,
    ca_file: str | os.PathLike[str] | None = None,
    client_cert: str | os.PathLike[str] | None = None,
    client_key: str | os.PathLike[str] | None = None,
) -> ssl.SSLContext:
    """Return the context for these settings. Callers share it, so nobody may change it.

    verify: whether the backend's certificate and name are checked.
    ca_file: PEM file with the only authorities to trust; without it those of the system.
    client_cert: PEM file that shows the backend who we are.
    client_key: PEM file with its key, not encrypted, if the key is not in ``client_cert``.

    A file that has changed since gives a new context. Reads files: call it at start-up or in a thread. Raises
    ``TlsConfigError``.
    """
    if client_key is not None and client_cert is None:
        raise TlsConfigError("client_key: of no use without client_cert")
    return _build(
        verify,
        None if ca_file is None else _File.of("ca_file", ca_file),
        None if client_cert is None else _File.of("client_cert", client_cert),
        None if client_key is None else _File.of("client_key", client_key),
    )


@functools.lru_cache(maxsize=64)
def _build(verify: bool, authorities: _File | None, cert: _File | None, key: _File | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=authorities.path if authorities else None)
    except ssl.SSLError as error:
        raise TlsConfigError(f"ca_file: {_path(authorities)} holds no PEM certificates") from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert is not None:
        _show_certificate(context, cert, key)
    return context


def _show_certificate(context: ssl.SSLContext, cert: _File, key: _File | None) -> None:
    try:
        context.load_cert_chain(cert.path, key.path if key else None, password=_no_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsConfigError(f"client_key: {_path(key)} is not the key of {cert.path}") from error
        raise TlsConfigError(f"client_cert: {cert.path} and its key are not usable PEM ({error.reason})") from error


def _no_passphrase() -> str:
    """Stand between OpenSSL and the terminal, where it would ask and wait."""
    raise TlsConfigError("client_key: the key is encrypted; store it without a passphrase")


def _path(file: _File | None) -> str:
    return "the file" if file is None else file.path
