"""TLS and mutual TLS, for NFS and for the control service: who gets in, who does not, and what no log may say."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from daemon_rig import DaemonProcess, client, server
from freepage_client.io.remote import RemoteMachine
from freepage_client.io.transport import GrpcNetwork
from freepage_lab.daemons import choose, tls_for
from freepage_proto.nfs3 import NullArgs, NullRes
from freepage_proto.rpc import AuthSys, CallHeader, Procedure, RpcConnectionLost
from freepage_runtime import tls
from freepage_runtime.control_client import ControlClient, ControlError
from freepage_runtime.credentials import for_server
from freepage_runtime.errors import SettingError, UserError
from freepage_runtime.registry import list_daemons
from freepage_runtime.tls import TlsFiles, TlsSettings
from freepage_server.io.service import NfsService, make_server
from pems import Authority, Pair

HEADER = CallHeader("a", 7, 1, AuthSys(1000, 1000, (), "a.example"))


class Pems:
    """An authority, what it signed, and somebody else's."""

    def __init__(self, directory: Path, openssl: str) -> None:
        self.directory = directory
        self.ours = Authority(directory, openssl)
        self.server = self.ours.issue("server")
        self.client = self.ours.issue("client", "DNS:client.example")
        self.elsewhere = self.ours.issue("elsewhere", "DNS:files.example")
        self.theirs = Authority(directory, openssl, "theirs")
        self.stranger = self.theirs.issue("stranger")


@pytest.fixture(scope="session")
def pems(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[..., str]) -> Pems:
    return Pems(tmp_path_factory.mktemp("pems"), require_tool("openssl", debian="openssl"))


def files(pair: Pair | None, ca: Path | None, name: str | None = None) -> TlsFiles:
    return tls.load(pair.certificate if pair else None, pair.key if pair else None, ca, name)


# --- files ------------------------------------------------------------------------------------------------------------


def test_what_is_wrong_with_a_file(pems: Pems, tmp_path: Path) -> None:
    certificate, key = pems.server
    with pytest.raises(UserError, match=r"cannot read .*nothing\.pem: No such file"):
        tls.load(tmp_path / "nothing.pem", key)
    with pytest.raises(UserError, match=r"server\.pem holds no PEM block of a private key"):
        tls.load(certificate, certificate)
    with pytest.raises(UserError, match=r"client\.key is not that of the certificate .*server\.pem.*mismatch"):
        tls.load(certificate, pems.client.key)
    copy = tmp_path / "copy.key"
    copy.write_bytes(key.read_bytes())
    copy.chmod(0o644)
    with pytest.raises(UserError, match="can be read by everybody"):
        tls.load(certificate, copy)
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    with pytest.raises(UserError, match=r"damaged\.pem holds no certificate of an authority"):
        tls.load(certificate, key, damaged)
    with pytest.raises(UserError, match="damaged"):
        tls.load(damaged, key)


def test_what_was_loaded_does_not_print_its_key(pems: Pems) -> None:
    loaded = files(pems.server, pems.ours.certificate)
    assert loaded.key == pems.server.key.read_bytes()
    assert "PRIVATE" not in repr(loaded)
    assert "PRIVATE" not in f"{loaded}"


def test_half_a_setting_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x"
    assert TlsSettings.given() is None
    for cert, key in ((file, None), (None, file)):
        with pytest.raises(SettingError, match="go together"):
            TlsSettings.given(cert, key)
    with pytest.raises(SettingError, match="--tls-ca"):
        TlsSettings.given(server_name="x")
    with pytest.raises(SettingError, match="needs --tls-cert"):
        TlsSettings(ca=file).load_for_server()
    with pytest.raises(SettingError, match="authority of yours"):
        TlsSettings(file, file, tls.SYSTEM_CA).load_for_server()
    assert TlsSettings(ca=tls.SYSTEM_CA).load() == TlsFiles()
    environment = {"FREEPAGE_TLS_CA": "ca.pem", "FREEPAGE_TLS_CERT": "", "FREEPAGE_TLS_SERVER_NAME": "x"}
    assert TlsSettings.from_environment(environment) == TlsSettings(ca=Path("ca.pem"), server_name="x")
    assert TlsSettings.from_environment({}) is None


# --- on the wire ------------------------------------------------------------------------------------------------------


class Nobody:
    def reader(self, header: CallHeader, handle: bytes, peer: str = "local") -> None:
        return None

    async def call(self, procedure: Procedure, header: CallHeader, args: object, peer: str = "local") -> object:
        return NullRes()


def against(
    shown: TlsFiles | None, story: Callable[[Callable[[TlsFiles | None], Awaitable[None]]], Awaitable[None]]
) -> None:
    """A server that shows ``shown``; ``story`` gets what dials it once with a client's files and makes a call."""

    async def main() -> None:
        service = NfsService(Nobody())
        server = make_server(service)
        credentials = for_server(shown)
        port = (
            server.add_insecure_port("127.0.0.1:0")
            if credentials is None
            else server.add_secure_port("127.0.0.1:0", credentials)
        )
        await server.start()

        async def dial(given: TlsFiles | None) -> None:
            network = GrpcNetwork(tls=given, call_deadline_s=10.0)
            try:
                answer = await network.connect(f"127.0.0.1:{port}").call(Procedure.NULL, HEADER, NullArgs())
                assert answer == NullRes()
            finally:
                await network.close()

        try:
            await story(dial)
        finally:
            await server.stop(None)

    asyncio.run(main())


def test_a_server_with_a_certificate(pems: Pems) -> None:
    async def story(dial: Callable[[TlsFiles | None], Awaitable[None]]) -> None:
        await dial(files(None, pems.ours.certificate))
        await dial(files(pems.stranger, pems.ours.certificate))  # nobody asked for it
        for given in (None, files(None, pems.theirs.certificate), files(None, pems.ours.certificate, "files.example")):
            with pytest.raises(RpcConnectionLost):
                await dial(given)

    against(files(pems.server, None), story)


def test_a_server_that_wants_certificates(pems: Pems) -> None:
    async def story(dial: Callable[[TlsFiles | None], Awaitable[None]]) -> None:
        await dial(files(pems.client, pems.ours.certificate))
        for given in (None, files(None, pems.ours.certificate), files(pems.stranger, pems.ours.certificate)):
            with pytest.raises(RpcConnectionLost):
                await dial(given)

    against(files(pems.server, pems.ours.certificate), story)


def test_the_name_in_the_certificate(pems: Pems) -> None:
    async def story(dial: Callable[[TlsFiles | None], Awaitable[None]]) -> None:
        with pytest.raises(RpcConnectionLost):
            await dial(files(None, pems.ours.certificate))
        await dial(files(None, pems.ours.certificate, "files.example"))

    against(files(pems.elsewhere, None), story)


def test_a_client_that_wants_tls_does_not_speak_without(pems: Pems) -> None:
    async def story(dial: Callable[[TlsFiles | None], Awaitable[None]]) -> None:
        await dial(None)
        with pytest.raises(RpcConnectionLost):
            await dial(files(None, pems.ours.certificate))

    against(None, story)


# --- daemons ----------------------------------------------------------------------------------------------------------


def arguments(pair: Pair, ca: Path) -> tuple[str, ...]:
    return ("--tls-cert", str(pair.certificate), "--tls-key", str(pair.key), "--tls-ca", str(ca))


def test_a_cluster_under_mutual_tls_and_what_it_logs(
    pems: Pems, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS and a control service off loopback both want a certificate; the latter a token too. No log names a secret."""
    export = tmp_path / "export"
    export.mkdir()
    (export / "hello").write_text("over TLS")
    token_file = tmp_path / "token"
    ours = arguments(pems.server, pems.ours.certificate)
    public = ("--control", "0.0.0.0:0", "--token-file", str(token_file), "--log-level", "debug", "--log-format", "json")
    with (
        server(export, *ours, *public) as s,
        client(s.wait_ready(), *arguments(pems.client, pems.ours.certificate)) as c,
    ):
        c.wait_ready()
        token = token_file.read_text().strip()

        async def read() -> bytes:
            async with RemoteMachine(c.control) as machine:  # on loopback: neither TLS nor token
                task = await machine.task()
                return bytes(await task.read(await task.open("/mnt/hello", os.O_RDONLY), 100))

        async def role(given: TlsFiles | None, token: str | None) -> str:
            async with ControlClient(s.control, token=token, tls=given, timeout_s=10.0) as control:
                return (await control.info()).role

        assert asyncio.run(read()) == b"over TLS"
        (daemon,) = list_daemons("server")
        assert daemon.tls
        assert not list_daemons("client")[0].tls
        with pytest.raises(UserError, match="FREEPAGE_TLS_CA"):
            tls_for(daemon)
        monkeypatch.setenv("FREEPAGE_TLS_CA", str(pems.ours.certificate))
        monkeypatch.setenv("FREEPAGE_TLS_CERT", str(pems.client.certificate))
        monkeypatch.setenv("FREEPAGE_TLS_KEY", str(pems.client.key))
        assert choose([s.control])[0].tls
        named = tls_for(daemon)
        assert asyncio.run(role(named, token)) == "server"
        for given, refused in (
            (named, None),
            (named, "w" * 43),
            (None, token),
            (files(None, pems.ours.certificate), token),
        ):
            with pytest.raises(ControlError):
                asyncio.run(role(given, refused))
        assert (c.stop(), s.stop()) == (0, 0)
    secrets = [token, *pems.server.key.read_text().splitlines()[1:-1], *pems.client.key.read_text().splitlines()[1:-1]]
    assert s.stderr
    for secret in secrets:
        assert secret not in s.stderr
        assert secret not in c.stderr


def test_daemons_that_cannot_begin(pems: Pems, tmp_path: Path) -> None:
    export = tmp_path / "export"
    export.mkdir()
    wrong = ("--tls-cert", str(pems.server.certificate), "--tls-key", str(pems.client.key))
    with server(export, *wrong) as daemon:
        assert daemon.end() != 0
        assert daemon.stderr.startswith("freepage: the key ")
        assert "is not that of" in daemon.stderr
        assert daemon.stderr.count("\n") == 1
    with server(export, *arguments(pems.server, pems.ours.certificate)) as s:
        s.wait_ready()
        mount = ("--mount", f"{s.ready['grpc']}:/export=/mnt", "--tls-ca", str(pems.ours.certificate))
        with DaemonProcess("client", *mount) as refused:  # it shows no certificate
            assert refused.end() != 0
            assert "is unreachable" in refused.stderr
        assert s.stop() == 0
