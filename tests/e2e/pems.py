"""Certificates made with the openssl command, for the length of a test session."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple


class Pair(NamedTuple):
    certificate: Path
    key: Path


class Authority:
    """A certificate authority in ``directory``: `issue` makes certificates that it signs."""

    def __init__(self, directory: Path, openssl: str, name: str = "ca") -> None:
        self.directory = directory
        self._openssl = openssl
        self.name = name
        key = self._key(name)
        self.certificate = directory / f"{name}.pem"
        self._run("req", "-x509", "-new", "-key", str(key), "-subj", f"/CN={name}", "-days", "2",
                  "-out", str(self.certificate))  # fmt: skip
        self._signs_with = key

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([self._openssl, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def _key(self, name: str) -> Path:
        key = self.directory / f"{name}.key"
        self._run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key))
        key.chmod(0o600)
        return key

    def issue(self, name: str, alternatives: str = "IP:127.0.0.1,DNS:localhost") -> Pair:
        """A certificate for ``alternatives``, in the words of openssl's subjectAltName."""
        key, request = self._key(name), self.directory / f"{name}.csr"
        certificate, extensions = self.directory / f"{name}.pem", self.directory / f"{name}.ext"
        self._run("req", "-new", "-key", str(key), "-subj", f"/CN={name}", "-out", str(request))
        extensions.write_text(f"subjectAltName={alternatives}\n")
        self._run("x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._signs_with),
                  "-set_serial", str(1 + sum(map(ord, name))), "-days", "2", "-extfile", str(extensions),
                  "-out", str(certificate))  # fmt: skip
        return Pair(certificate, key)
