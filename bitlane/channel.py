"""Where the servers are and how to reach them: targets, TLS, channel options, and failing over to the next target."""

import asyncio
import ipaddress
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import grpc
from grpc import aio

from bitlane import defaults
from bitlane.deadline import Deadline
from bitlane.errors import ConfigError
from bitlane.tls import Tls
from bitlane.v1 import inference_pb2_grpc as pb_grpc
from bitlane.v1 import policy_pb2_grpc as policy_grpc
from bitlane.version import read_version

if TYPE_CHECKING:
    # Exist in the stub files only.
    from bitlane.v1.admin_pb2_grpc import AdminServiceAsyncStub as AdminStub
    from bitlane.v1.inference_pb2_grpc import InferenceServiceAsyncStub as Stub
    from bitlane.v1.policy_pb2_grpc import PolicyServiceAsyncStub as PolicyStub

_READY, _FAILED = grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE
# Seconds. Between two looks at a connection that is being made: the least and the most.
_LOOK_MIN, _LOOK_MAX = 0.001, 0.05
# Before another target is taken instead of one whose connection is being made; an address that drops packets is silent.
_PATIENCE = 1.0

_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "passthrough:", "xds:", "vsock:")


def _split(target: str | Sequence[str] | None) -> list[str]:
    if target is None:
        target = os.environ.get(defaults.ENV_TARGET) or defaults.TARGET
    listed = target.split(",") if isinstance(target, str) else target
    targets = [each.strip() for each in listed if each.strip()]
    if not targets:
        raise ConfigError(f"no target: give host:port, or set {defaults.ENV_TARGET}")
    return [_with_port(each) for each in targets]


def _with_port(target: str) -> str:
    if target.startswith(_SCHEMES):
        return target
    if "://" in target:
        raise ConfigError(f"target {target!r}: give host:port without http:// and the like; TLS is set by `tls`")
    if target.startswith("["):
        return target if "]:" in target else f"{target}:{defaults.PORT}"
    if target.count(":") > 1:
        return f"[{target}]:{defaults.PORT}"
    return target if ":" in target else f"{target}:{defaults.PORT}"


def is_loopback(target: str) -> bool:
    """Whether what is sent to this target stays on this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    for scheme in _SCHEMES:
        target = target.removeprefix(scheme)
    host = target.lstrip("/").rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Address:
    """The targets in their order of preference, and the credentials to use for them."""

    targets: tuple[str, ...]
    tls: Tls | None
    """None: plaintext."""

    @classmethod
    def read(cls, target: str | Sequence[str] | None, tls: bool | Tls | None, insecure: bool) -> "Address":
        """Decides on TLS: by default plaintext on loopback and TLS everywhere else.

        Raises ConfigError when a key would go out in the clear without `insecure=True`.
        """
        targets = tuple(_split(target))
        if insecure and tls:
            raise ConfigError("`insecure=True` and `tls` exclude each other")
        if isinstance(tls, Tls):
            return cls(targets, tls)
        remote = [each for each in targets if not is_loopback(each)]
        if tls is None:
            tls = bool(remote) and not insecure
        if not tls and remote and not insecure:
            raise ConfigError(
                f"plaintext to {remote[0]} would show the API key and the prompts to the network: "
                "use TLS (`tls=True`), or say `insecure=True` if the network is trusted"
            )
        return cls(targets, Tls() if tls else None)


def _options(tls: Tls | None) -> list[tuple[str, str | int]]:
    options: list[tuple[str, str | int]] = [
        ("grpc.primary_user_agent", f"bitlane-python/{read_version()}"),
        ("grpc.keepalive_time_ms", defaults.KEEPALIVE_TIME_MS),
        ("grpc.keepalive_timeout_ms", defaults.KEEPALIVE_TIMEOUT_MS),
        # gRPC's own probes of the bandwidth are pings too: one that is under way when the line breaks stands for the
        # keepalive's, and by default is waited for a minute.
        ("grpc.http2.ping_timeout_ms", defaults.KEEPALIVE_TIMEOUT_MS),
        # A client that only reads sends no data, and after two pings without any gRPC would ping once a minute.
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", defaults.RECONNECT_INITIAL_MS),
        ("grpc.max_reconnect_backoff_ms", defaults.RECONNECT_MAX_MS),
        ("grpc.max_receive_message_length", defaults.MAX_MESSAGE_BYTES),
        # The SDK retries; two layers of retries would multiply.
        ("grpc.enable_retries", 0),
        # Clients of one process do not share connections, so that closing one cannot touch another.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if tls is not None and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


class Channels:
    """One channel a target, opened when first needed. Calls go to the current target until it fails."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._current = 0
        self._open: dict[int, tuple[aio.Channel, Stub, PolicyStub]] = {}
        self._admin: dict[int, AdminStub] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._met = False  # a server, ever
        self._lost_at: float | None = None  # since when none is there; None: one is, or was when last looked
        self._pid = os.getpid()
        self.closed = False

    @property
    def current(self) -> int:
        """The number of the current target."""
        return self._current

    @property
    def target(self) -> str:
        """The current target."""
        return self._address.targets[self._current]

    def stub(self) -> "Stub":
        """Calls to the current target. RuntimeError after close, in another event loop, or after a fork."""
        return self._current_stubs()[1]

    def policy_stub(self) -> "PolicyStub":
        """The same for the policy API."""
        return self._current_stubs()[2]

    def admin_stub(self) -> "AdminStub":
        """The same for the admin API, whose code is loaded only now: few need it."""
        from bitlane.v1 import admin_pb2_grpc as admin_grpc  # noqa: PLC0415

        channel = self._current_stubs()[0]
        if self._current not in self._admin:
            self._admin[self._current] = cast("AdminStub", admin_grpc.AdminServiceStub(channel))
        return self._admin[self._current]

    def _current_stubs(self) -> "tuple[aio.Channel, Stub, PolicyStub]":
        if self.closed:
            raise RuntimeError("the client is closed")
        if os.getpid() != self._pid:
            raise RuntimeError("a client does not survive a fork: make a new one in the child process")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("an AsyncClient belongs to the event loop that used it first: make one for each loop")
        return self._stubs(self._current)

    def _stubs(self, number: int) -> "tuple[aio.Channel, Stub, PolicyStub]":
        if number not in self._open:
            channel = self._connect(self._address.targets[number])
            stub = cast("Stub", pb_grpc.InferenceServiceStub(channel))
            policy_stub = cast("PolicyStub", policy_grpc.PolicyServiceStub(channel))
            self._open[number] = (channel, stub, policy_stub)
        return self._open[number]

    def _connect(self, target: str) -> aio.Channel:
        tls = self._address.tls
        if tls is None:
            return aio.insecure_channel(target, _options(tls))
        credentials = grpc.ssl_channel_credentials(tls.root_certificates, tls.private_key, tls.certificate_chain)
        return aio.secure_channel(target, credentials, _options(tls))

    async def reach(self, deadline: Deadline, window: float) -> None:
        """Waits for a target that is connected, the current one by preference, and makes it the current one.

        A router that restarts takes its connections with it, and gRPC tries again only after a wait of its own: a call
        made meanwhile fails without having been sent anywhere. So where a server has been met, none is made for up to
        `window` seconds; where none ever was, the address may be wrong, and the first failure ends the wait. Then the
        call tells what gRPC knows.
        """
        began, look = time.monotonic(), _LOOK_MIN
        while not self.closed and deadline.remaining() > 0:
            self._current_stubs()
            impatient = time.monotonic() - began > _PATIENCE
            if self._take_connected(impatient) or not self._may_come(window):
                return
            await asyncio.sleep(look)
            look = min(2 * look, _LOOK_MAX)

    def _take_connected(self, impatient: bool) -> bool:
        if (state := self._state(self._current)) is _READY or impatient or state is _FAILED:
            count = len(self._address.targets)
            for number in ((self._current + step) % count for step in range(count)):
                if self._state(number) is _READY:
                    self._current, self._met, self._lost_at = number, True, None
                    return True
        return False

    def _may_come(self, window: float) -> bool:
        now = time.monotonic()
        if self._met and self._lost_at is None:
            self._lost_at = now
        if self._lost_at is not None and now - self._lost_at < window:
            return True
        return any(self._state(number) is not _FAILED for number in self._open)

    def _state(self, number: int) -> grpc.ChannelConnectivity:
        """Of the connection to a target, which is made from now on if it is not there."""
        return self._stubs(number)[0].get_state(try_to_connect=True)

    def fail_over(self, failed: int) -> None:
        """Moves on to the next target, unless another call did so already."""
        if failed == self._current:
            self._current = (failed + 1) % len(self._address.targets)

    async def close(self) -> None:
        """Ends all calls and connections. Can be called again."""
        self.closed = True
        channels = [channel for channel, *_ in self._open.values()]
        self._open.clear()
        self._admin.clear()
        for channel in channels:
            await channel.close()
