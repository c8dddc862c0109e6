"""TLS settings of a client."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """TLS with certificates of your own. All of them PEM, as bytes."""

    root_certificates: bytes | None = None
    """Authorities to trust. Default: those that gRPC ships with."""
    certificate_chain: bytes | None = None
    """The client's certificate, for mutual TLS; together with `private_key`."""
    private_key: bytes | None = field(default=None, repr=False)
    server_name: str | None = None
    """The name to expect in the server's certificate, where it differs from the target."""

    def __post_init__(self) -> None:
        if (self.certificate_chain is None) != (self.private_key is None):
            raise ValueError("certificate_chain and private_key go together")
