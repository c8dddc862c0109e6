"""Where the server is, read from a URL."""

import ssl
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, unquote, urlsplit

from broker.options import BrokerOptions


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server and how to log in there."""

    host: str
    port: int
    path: str  # of a unix socket; host and port do not matter then
    username: str
    password: str
    database: int
    tls: ssl.SSLContext | None

    def at(self, host: str, port: int) -> "Endpoint":
        """The same login at another node of the cluster."""
        return replace(self, host=host or self.host, port=port, path="")

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def parse_endpoint(options: BrokerOptions) -> Endpoint:
    """The endpoint that the options name. Raises ValueError, without the password, for a URL that names none."""
    parts = urlsplit(options.url)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError(f"the broker's URL starts with {parts.scheme!r}: use redis://, rediss:// or unix://")
    database = parse_qs(parts.query).get("db", [parts.path.strip("/") if parts.scheme != "unix" else ""])[0] or "0"
    if not database.isdecimal():
        raise ValueError(f"the broker's URL names the database {database!r}: use a number")
    return Endpoint(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 6379,
        path=unquote(parts.path) if parts.scheme == "unix" else "",
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=int(database),
        tls=_tls(options) if parts.scheme == "rediss" else None,
    )


def _tls(options: BrokerOptions) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.tls_ca_file)
    if options.tls_certificate_file is not None:
        context.load_cert_chain(options.tls_certificate_file, options.tls_key_file)
    return context
