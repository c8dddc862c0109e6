"""Targets and TLS: a key never goes out in the clear by accident."""

from collections.abc import Sequence

import pytest

from bitlane import AsyncClient, Client, ConfigError, Tls
from bitlane.channel import Address, is_loopback


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch):
    for name in ("BITLANE_TARGET", "BITLANE_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("target", "read"),
    [
        (None, ["localhost:50051"]),
        ("localhost", ["localhost:50051"]),
        ("127.0.0.1:1", ["127.0.0.1:1"]),
        ("::1", ["[::1]:50051"]),
        ("[::1]", ["[::1]:50051"]),
        ("[::1]:7", ["[::1]:7"]),
        ("localhost:1, localhost:2", ["localhost:1", "localhost:2"]),
        (["localhost:1", "localhost:2"], ["localhost:1", "localhost:2"]),
        ("ipv4:127.0.0.1:1,127.0.0.1:2", ["ipv4:127.0.0.1:1", "127.0.0.1:2"]),
        ("unix:/run/bitlane.sock", ["unix:/run/bitlane.sock"]),
    ],
)
def test_targets(target: str | Sequence[str] | None, read: list[str]):
    address = Address.read(target, None, insecure=False)
    assert list(address.targets) == read
    assert address.tls is None


def test_the_environment_names_the_target(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BITLANE_TARGET", "localhost:7,localhost:8")
    assert Client().targets == ("localhost:7", "localhost:8")


@pytest.mark.parametrize("target", ["", ",", [], "http://localhost:1", "grpc://localhost:1"])
def test_targets_that_cannot_work(target: str | Sequence[str]):
    with pytest.raises(ConfigError, match="host:port"):
        AsyncClient(target)


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("localhost:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("unix:/x", True),
        ("dns:///localhost:1", True),
        ("ipv4:127.0.0.1:1", True),
        ("ipv6:[::1]:1", True),
        ("localhost.example.com:1", False),
        ("10.0.0.1:1", False),
        ("0.0.0.0:1", False),
        ("dns:///bitlane:1", False),
        ("dns://127.0.0.1/bitlane:1", False),
        ("ipv4:10.0.0.1:1", False),
        ("[fe80::1]:1", False),
    ],
)
def test_what_counts_as_this_machine(target: str, local: bool):
    assert is_loopback(target) is local


def test_tls_is_the_default_beyond_this_machine():
    assert Address.read("bitlane.example.com:443", None, insecure=False).tls == Tls()
    assert Address.read("localhost:1,bitlane.example.com:443", None, insecure=False).tls == Tls()
    assert Address.read("localhost:1", True, insecure=False).tls == Tls()


def test_plaintext_beyond_this_machine_has_to_be_said():
    with pytest.raises(ConfigError, match="insecure=True"):
        Client("bitlane.example.com:1", tls=False, api_key="bl_secret")
    assert Address.read("bitlane.example.com:1", None, insecure=True).tls is None


def test_insecure_and_tls_exclude_each_other():
    with pytest.raises(ConfigError, match="exclude"):
        Client("localhost:1", tls=True, insecure=True)


def test_half_a_client_certificate_is_refused():
    with pytest.raises(ValueError, match="go together"):
        Tls(certificate_chain=b"x")


@pytest.mark.parametrize("key", ["bl_secret\n", " bl_secret", "bl_sécret"])
def test_a_key_with_stray_characters_is_refused_and_not_shown(key: str):
    with pytest.raises(ConfigError) as caught:
        Client(api_key=key)
    assert "cret" not in str(caught.value)


def test_secrets_are_not_in_representations():
    assert "bl_secret" not in repr(Client(api_key="bl_secret"))
    assert "PRIVATE" not in repr(Tls(certificate_chain=b"c", private_key=b"PRIVATE"))
