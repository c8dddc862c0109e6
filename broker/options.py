"""All settings of the broker, with their defaults, in one place."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """How to reach the server and how long things live.

    Routers and workers of one service must agree on all but the first five and `timeout_s`. Files are read again for
    new connections when they have changed.
    """

    url: str = field(default="redis://127.0.0.1:6379/0", repr=False)
    """`redis://[user[:password]@]host:port/db`, `rediss://...` for TLS, or `unix:///path/to/socket?db=0`."""

    password_file: str | None = None
    """File whose text is the password, in place of one in the URL. White space around it is ignored."""

    tls_ca_file: str | None = None
    """PEM file of the authority that signed the server's certificate. None: the system's authorities."""

    tls_certificate_file: str | None = None
    """PEM file of the client's certificate, for mutual TLS."""

    tls_key_file: str | None = None
    """PEM file of the client's private key, without a password. None: it is in `tls_certificate_file`."""

    shards: int = 1
    """Hash tags over which tenants are spread; above 1 only for Redis Cluster. Changing it strands what is stored."""

    timeout_s: float = 0.8
    """A call that has no answer after this many seconds raises `BrokerUnavailable`."""

    lease_ms: int = 5_000
    """How long a worker holds a request without an append or a renewal."""

    resume_window_ms: int = 60_000
    """How long the token log and the ending stay readable after a request has ended."""

    max_attempts: int = 3
    """Failed attempts after which a request goes to the dead letters."""

    dead_retention_ms: int = 24 * 3_600_000
    """How long a dead letter keeps its job, and so its prompt, for a replay."""

    dead_letters_max: int = 10_000
    """About how many dead letters one shard lists; the oldest leave first."""

    inbox_ttl_ms: int = 30_000
    """A router's inbox disappears when the router has not read it for so long."""

    inbox_max: int = 20_000
    """About how many entries an inbox holds before the oldest are dropped, which the router sees as a `Gap`."""

    batch_turn: int = 16
    """Every n-th claim of a pool prefers batch work, so that it never starves."""

    usage_minute_ms: int = 3 * 3_600_000
    """How long the usage of a minute is kept."""

    usage_hour_ms: int = 14 * 24 * 3_600_000
    """How long the usage of an hour is kept."""

    usage_day_ms: int = 400 * 24 * 3_600_000
    """How long the usage of a day is kept."""

    worker_ttl_ms: int = 3_000
    """A worker whose last heartbeat is older is not shown as live."""

    def __post_init__(self) -> None:
        for name in ("shards", "timeout_s", "lease_ms", "resume_window_ms", "max_attempts", "dead_retention_ms"):
            if getattr(self, name) <= 0:
                raise ValueError(f"BrokerOptions.{name} must be above 0, not {getattr(self, name)}")
        for name in ("usage_minute_ms", "usage_hour_ms", "usage_day_ms"):
            if getattr(self, name) <= 0:
                raise ValueError(f"BrokerOptions.{name} must be above 0, not {getattr(self, name)}")
        for name in ("dead_letters_max", "inbox_ttl_ms", "inbox_max", "worker_ttl_ms"):
            if getattr(self, name) <= 0:
                raise ValueError(f"BrokerOptions.{name} must be above 0, not {getattr(self, name)}")
        if self.batch_turn < 2:
            raise ValueError(f"BrokerOptions.batch_turn must be at least 2, not {self.batch_turn}")
