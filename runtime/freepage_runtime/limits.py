"""What a stranger may cost a gRPC server: options for grpc.aio.server that both services share.

gRPC's own defaults are made for friends: two minutes for a handshake, any number of connections and streams, and a peer
that has fallen silent is kept for two hours.
"""

from __future__ import annotations

HANDSHAKE_S = 10
"""From a connection's first moment until TLS and HTTP/2 are agreed; then a silent peer is cut off."""
ASK_S = 60
"""A peer of which nothing was heard for so long is asked (HTTP/2 PING)..."""
ANSWER_S = 20
"""... and cut off when it has not answered so much later."""
PATIENT_CLIENT_S = 30
"""How often clients may ask us while nothing else is said; gRPC takes more for an attack."""
MAX_PENDING = 1 << 20


def server_options(
    *,
    receive_bytes: int,
    send_bytes: int,
    connections: int,
    streams: int,
    handshake_s: float = HANDSHAKE_S,
    ask_s: float = ASK_S,
    answer_s: float = ANSWER_S,
) -> tuple[tuple[str, int], ...]:
    """``streams`` is calls under way on one connection: a client waits by itself before it begins more, and what it
    begins all the same is refused.

    A connection over the number of ``connections`` is closed as soon as it was accepted. A message over
    ``receive_bytes`` is refused (RESOURCE_EXHAUSTED) before it was received.
    """
    return (
        ("grpc.max_receive_message_length", receive_bytes),
        ("grpc.max_send_message_length", send_bytes),
        ("grpc.max_allowed_incoming_connections", connections),
        ("grpc.max_concurrent_streams", streams),
        # What has come and not been taken up: gRPC refuses it at random from 1000 calls on. We count them ourselves.
        ("grpc.server.max_pending_requests", MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING),
        ("grpc.server_handshake_timeout_ms", int(handshake_s * 1000)),
        ("grpc.http2.settings_timeout", int(handshake_s * 1000)),
        ("grpc.keepalive_time_ms", int(ask_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(answer_s * 1000)),
        # A keepalive ping that is not answered counts only after this, which is a minute unless said otherwise.
        ("grpc.http2.ping_timeout_ms", int(answer_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", PATIENT_CLIENT_S * 1000),
        ("grpc.so_reuseport", 0),  # a port that another server has taken is an error, not a partnership
    )
