"""PEM files for TLS, read and looked over before gRPC gets them: its own errors name neither the file nor the fault."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from freepage_runtime.errors import UserError


class TlsFiles(NamedTuple):
    """PEM texts. ``ca`` is None when the peer's certificate is checked against the system's own authorities."""

    certificate: bytes
    key: bytes
    ca: bytes | None


def load(certificate: Path, key: Path, ca: Path | None = None) -> TlsFiles:
    """Read a certificate chain, its key and the authority's certificate; UserError names the file that is wrong."""
    return TlsFiles(
        _read_pem(certificate, "CERTIFICATE"),
        _read_pem(key, "PRIVATE KEY", private=True),
        None if ca is None else _read_pem(ca, "CERTIFICATE"),
    )


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
