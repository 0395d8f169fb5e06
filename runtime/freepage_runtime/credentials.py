"""What gRPC makes of PEM files: the credentials of a server that listens, and of a client that dials."""

from __future__ import annotations

import grpc

from freepage_runtime.tls import TlsFiles


def for_server(files: TlsFiles | None) -> grpc.ServerCredentials | None:
    """None: no TLS. With an authority, callers without a certificate of it do not get past the handshake."""
    if files is None:
        return None
    assert files.certificate is not None and files.key is not None, "a server shows a certificate"
    return grpc.ssl_server_credentials(
        [(files.key, files.certificate)],
        root_certificates=files.ca,
        require_client_auth=files.ca is not None,
    )


def for_channel(files: TlsFiles | None) -> grpc.ChannelCredentials | None:
    """None: no TLS."""
    if files is None:
        return None
    return grpc.ssl_channel_credentials(files.ca, files.key, files.certificate)


def channel_options(files: TlsFiles | None) -> tuple[tuple[str, str], ...]:
    """The options that go with `for_channel`: under which name the server must show itself."""
    if files is None or files.server_name is None:
        return ()
    return (("grpc.ssl_target_name_override", files.server_name),)
