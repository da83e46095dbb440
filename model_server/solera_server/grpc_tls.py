"""The server's certificate for gRPC, which asks for it at each handshake."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from solera_server.certificates import Certificates


def grpc_credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Return credentials that follow ``certificates``."""
    known = certificates.pair

    def configuration() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(certificates.pair.key, certificates.pair.certificate)]
        )

    def changed() -> grpc.ServerCertificateConfiguration | None:
        # Called by gRPC's own threads before a handshake; None: as before.
        nonlocal known
        if certificates.pair is known:
            return None
        known = certificates.pair
        return configuration()

    return grpc.dynamic_ssl_server_credentials(configuration(), changed)
