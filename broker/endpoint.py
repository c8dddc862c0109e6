"""Where the server is, read from a URL."""

from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from broker.login import Login
from broker.options import BrokerOptions


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server and how to log in there."""

    host: str
    port: int
    path: str  # of a unix socket; host and port do not matter then
    database: int
    login: Login = field(repr=False)

    def at(self, host: str, port: int) -> "Endpoint":
        """The same login at another node of the cluster."""
        return replace(self, host=host or self.host, port=port, path="")

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def parse_endpoint(options: BrokerOptions) -> Endpoint:
    """The endpoint that the options name.

    Raises:
        ValueError: the URL names none, or a file of the login cannot be used. Begins with the option's name, and holds
            nothing of the URL: what stands where a host or a number should may be a part of the password.
    """
    parts, port = _split(options.url)
    database = parse_qs(parts.query).get("db", [parts.path.strip("/") if parts.scheme != "unix" else ""])[0] or "0"
    if not database.isdecimal():
        raise ValueError("url: the broker's URL names a database that is no number")
    login = Login(options, unquote(parts.username or ""), unquote(parts.password or ""), tls=parts.scheme == "rediss")
    return Endpoint(
        host=parts.hostname or "127.0.0.1",
        port=port,
        path=unquote(parts.path) if parts.scheme == "unix" else "",
        database=int(database),
        login=login,
    )


def _split(url: str) -> tuple[SplitResult, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        raise ValueError(
            "url: the broker's URL cannot be read; write it redis://user:password@host:port/database, and / ? # @ : % "
            "in the password as %2F %3F %23 %40 %3A %25"
        ) from None
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("url: the broker's URL must start with redis://, rediss:// or unix://")
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError("url: the broker's URL has a / ? or # before its @; in a password write them %2F %3F %23")
    return parts, port
