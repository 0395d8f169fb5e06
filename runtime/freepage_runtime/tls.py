"""PEM files for TLS, read and looked over before gRPC gets them: its own errors name neither the file nor the fault.

A daemon shows its certificate wherever it can be reached from another machine: NFS, and the control service off
loopback. With an authority (``ca``) it accepts only peers with a certificate of that authority (mutual TLS), in both
directions: a server its callers, a client its servers.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from freepage_runtime.errors import SettingError, UserError

SYSTEM_CA = Path("system")
"""Instead of a file: the system's own authorities."""

_ENVIRONMENT = {name: f"FREEPAGE_TLS_{name.upper()}" for name in ("cert", "key", "ca", "server_name")}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM texts. No certificate: a client that shows none. ``ca`` None: the system's own authorities, and a server
    asks its callers for no certificate. ``server_name`` is what a client expects instead of the name it dialled."""

    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    ca: bytes | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """What the user said: paths of PEM files."""

    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    server_name: str | None = None

    @classmethod
    def given(
        cls,
        cert: Path | None = None,
        key: Path | None = None,
        ca: Path | None = None,
        server_name: str | None = None,
    ) -> Self | None:
        """The settings, or None when the user said nothing: no TLS. Raises SettingError for half a pair."""
        if (cert is None) != (key is None):
            raise SettingError("--tls-cert and --tls-key go together (a certificate is of no use without its key)")
        if cert is None and ca is None:
            if server_name is not None:
                raise SettingError("--tls-server-name needs --tls-ca FILE, or --tls-ca system")
            return None
        return cls(cert, key, ca, server_name)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self | None:
        """The same from FREEPAGE_TLS_CERT, _KEY, _CA and _SERVER_NAME: for commands that ask daemons."""
        values = {name: environment.get(variable) or None for name, variable in _ENVIRONMENT.items()}
        cert, key, ca = (None if (text := values[name]) is None else Path(text) for name in ("cert", "key", "ca"))
        return cls.given(cert, key, ca, values["server_name"])

    def load(self) -> TlsFiles:
        """Raises UserError naming the file that is wrong."""
        ca = None if self.ca == SYSTEM_CA else self.ca
        return load(self.cert, self.key, ca, self.server_name)

    def load_for_server(self) -> TlsFiles:
        """The same for a server, which must show a certificate. Raises UserError."""
        if self.cert is None:
            raise SettingError("a server that speaks TLS needs --tls-cert and --tls-key")
        if self.ca == SYSTEM_CA:
            raise SettingError("a server checks its callers against an authority of yours: --tls-ca FILE")
        return self.load()


def load(
    certificate: Path | None, key: Path | None, ca: Path | None = None, server_name: str | None = None
) -> TlsFiles:
    """Read a certificate chain, its key and the authority's certificate; UserError names the file that is wrong."""
    chain = None if certificate is None else _read_pem(certificate, "CERTIFICATE")
    secret = None if key is None else _read_pem(key, "PRIVATE KEY", private=True)
    authority = None if ca is None else _read_pem(ca, "CERTIFICATE")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if ca is not None:
        try:
            context.load_verify_locations(ca)
        except ssl.SSLError as error:
            raise UserError(f"{ca} holds no certificate of an authority ({_reason(error)})") from error
    if certificate is not None and key is not None:
        try:
            # Without a password here OpenSSL would ask for one at the terminal.
            context.load_cert_chain(certificate, key, password="")
        except ssl.SSLError as error:
            raise UserError(
                f"the key {key} is not that of the certificate {certificate}, or is encrypted, or one of them is "
                f"damaged ({_reason(error)})"
            ) from error
    return TlsFiles(chain, secret, authority, server_name)


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "unreadable").replace("_", " ").lower()


def _read_pem(path: Path, label: str, private: bool = False) -> bytes:
    try:
        text = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if not _has_block(text, label):
        raise UserError(f"{path} holds no PEM block of a {label.lower()}")
    if private and mode & 0o004:
        raise UserError(f"the key {path} can be read by everybody (chmod 600 it)")
    return text


def _has_block(text: bytes, label: str) -> bool:
    # A key's label has a prefix in older forms ("RSA PRIVATE KEY", "EC PRIVATE KEY"): match the end of the line.
    return any(
        line.startswith(b"-----BEGIN ") and line.rstrip().endswith(label.encode("ascii") + b"-----")
        for line in text.splitlines()
    )
