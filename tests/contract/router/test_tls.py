"""The server's TLS over real sockets: who is let in, how certificates are renewed, and what is wrong with files."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from pydantic import ValidationError

from router.settings import RouterSettings
from router.tls import TlsFault, TlsFiles, server_credentials
from tests.certificates import EXPIRED, Authority, Pair

SPIFFE = "spiffe://example.org/team-a"


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> TlsFiles:
    return TlsFiles(*authority.issue("localhost").write(tmp_path))


@asynccontextmanager
async def serving(files: TlsFiles) -> AsyncGenerator[int]:
    """A server whose only method tells which names the client's certificate has; yields its port."""

    async def names(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return b" ".join(context.auth_context().get("x509_subject_alternative_name", []))

    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(names)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test", {"Names": handler})])
    port = server.add_secure_port("localhost:0", server_credentials(files))
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def call(port: int, root: bytes, client: Pair | None = None) -> bytes:
    """One call over a connection of its own."""
    credentials = grpc.ssl_channel_credentials(root, client and client.key, client and client.certificate)
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials, options) as channel:
        return cast("bytes", await channel.unary_unary("/test/Names")(b"", timeout=10))


async def refused(port: int, root: bytes, client: Pair | None = None) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(port, root, client)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_client_that_trusts_the_authority_is_served(files: TlsFiles, authority: Authority) -> None:
    async with serving(files) as port:
        assert await call(port, authority.pem) == b""
        await refused(port, Authority("another").pem)
        with pytest.raises(grpc.aio.AioRpcError):
            async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
                await channel.unary_unary("/test/Names")(b"", timeout=10)


async def test_only_certificates_of_the_clients_authority_are_let_in(
    files: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    clients, stranger = Authority("clients"), Authority("stranger")
    async with serving(replace(files, client_ca=clients.write(tmp_path))) as port:
        assert await call(port, authority.pem, clients.issue(SPIFFE, "a.test")) == f"{SPIFFE} a.test".encode()
        await refused(port, authority.pem)
        await refused(port, authority.pem, stranger.issue(SPIFFE))
        await refused(port, authority.pem, authority.issue(SPIFFE))
        await refused(port, authority.pem, clients.issue(SPIFFE, lasts=EXPIRED))
        assert await call(port, authority.pem, clients.issue("b.test")) == b"b.test"


async def test_a_renewed_certificate_is_used_by_the_next_connection(
    files: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    renewed = Authority("renewed")
    async with serving(files) as port:
        assert await call(port, authority.pem) == b""
        renewed.issue("localhost").write(tmp_path)
        assert await call(port, renewed.pem) == b""
        await refused(port, authority.pem)


async def test_a_half_written_pair_changes_nothing(files: TlsFiles, authority: Authority, tmp_path: Path) -> None:
    renewed = Authority("renewed")
    new = renewed.issue("localhost")
    async with serving(files) as port:
        files.certificate.write_bytes(new.certificate)  # the key is still the old one
        assert await call(port, authority.pem) == b""
        files.key.write_bytes(new.key[: len(new.key) // 2])
        assert await call(port, authority.pem) == b""
        files.key.unlink()
        assert await call(port, authority.pem) == b""
        renewed.issue("localhost", lasts=EXPIRED).write(tmp_path)
        assert await call(port, authority.pem) == b""
        new.write(tmp_path)
        assert await call(port, renewed.pem) == b""


async def test_the_clients_authority_is_followed_too(files: TlsFiles, authority: Authority, tmp_path: Path) -> None:
    old, new = Authority("old clients"), Authority("new clients")
    async with serving(replace(files, client_ca=old.write(tmp_path))) as port:
        assert await call(port, authority.pem, old.issue("a.test")) == b"a.test"
        new.write(tmp_path)
        assert await call(port, authority.pem, new.issue("a.test")) == b"a.test"
        await refused(port, authority.pem, old.issue("a.test"))


async def test_files_that_are_links_are_followed(tmp_path: Path, authority: Authority) -> None:
    """As a mounted secret is renewed: by pointing a link elsewhere."""
    renewed = Authority("renewed")
    for name, signer in (("first", authority), ("second", renewed)):
        (tmp_path / name).mkdir()
        signer.issue("localhost").write(tmp_path / name)
    current = tmp_path / "current"
    current.symlink_to("first")
    async with serving(TlsFiles(current / "server.pem", current / "server-key.pem")) as port:
        assert await call(port, authority.pem) == b""
        (tmp_path / "next").symlink_to("second")
        (tmp_path / "next").rename(current)
        assert await call(port, renewed.pem) == b""


def encrypted_key(pair: Pair) -> bytes:
    key = serialization.load_pem_private_key(pair.key, None)
    lock = serialization.BestAvailableEncryption(b"secret")
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no certificate", "tls_certificate_file: .*server.pem cannot be read: No such file or directory"),
        ("no key", "tls_key_file: .*server-key.pem cannot be read: No such file or directory"),
        ("no authority", "tls_client_ca_file: .*ca.pem cannot be read: No such file or directory"),
        ("a folder", "tls_key_file: .*server-key.pem cannot be read: Is a directory"),
        ("not PEM", "tls_certificate_file: .*server.pem holds no certificate in PEM"),
        ("not a key", "tls_key_file: .*server-key.pem holds no private key in PEM"),
        ("authority is not PEM", "tls_client_ca_file: .*ca.pem holds no certificate in PEM"),
        ("another's key", "tls_key_file: .*server-key.pem is not the key of the certificate in .*server.pem"),
        ("an encrypted key", "tls_key_file: .*server-key.pem is encrypted: use a key without a password"),
        ("expired", r"tls_certificate_file: .*server.pem expired on \d{4}-\d\d-\d\d"),
    ],
    ids=lambda text: text.replace(" ", "-") if ":" not in text else "",
)
def test_what_is_wrong_with_the_files_is_said(tmp_path: Path, authority: Authority, fault: str, words: str) -> None:
    pair = authority.issue("localhost")
    certificate, key = pair.write(tmp_path)
    ca = authority.write(tmp_path)
    match fault:
        case "no certificate":
            certificate.unlink()
        case "no key":
            key.unlink()
        case "no authority":
            ca.unlink()
        case "a folder":
            key.unlink()
            key.mkdir()
        case "not PEM":
            certificate.write_bytes(os.urandom(100))
        case "not a key":
            key.write_bytes(pair.certificate)
        case "authority is not PEM":
            ca.write_text("-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n")
        case "another's key":
            key.write_bytes(authority.issue("localhost").key)
        case "an encrypted key":
            key.write_bytes(encrypted_key(pair))
        case _:
            authority.issue("localhost", lasts=EXPIRED).write(tmp_path)
    with pytest.raises(TlsFault, match=f"^{words}$"):
        TlsFiles(certificate, key, ca).read()
    # The same words stop the start.
    with pytest.raises(ValidationError, match=words):
        RouterSettings(
            tls_certificate_file=certificate, tls_key_file=key, tls_client_ca_file=ca, tls_client_auth="required"
        )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tls_certificate_file": "c"}, "tls_key_file: is needed together with tls_certificate_file"),
        ({"tls_key_file": "k"}, "tls_certificate_file: is needed together with tls_key_file"),
        ({"tls_client_ca_file": "a"}, "tls_client_ca_file: is of no use with tls_client_auth=none"),
        ({"tls_client_auth": "required"}, "tls_client_ca_file: is needed with tls_client_auth=required"),
        (
            {"tls_client_auth": "required", "tls_client_ca_file": "a"},
            "tls_certificate_file: is needed with tls_client_auth=required",
        ),
        ({"listen": "0.0.0.0:1"}, "listen: 0.0.0.0:1 is beyond loopback and there is no TLS"),
        ({"listen": "[::]:1"}, r"listen: \[::\]:1 is beyond loopback and there is no TLS"),
        ({"listen": "router.example.org:1"}, "listen: router.example.org:1 is beyond loopback and there is no TLS"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RouterSettings.model_validate(settings)


def test_where_plaintext_may_be_spoken(files: TlsFiles) -> None:
    for listen in ("localhost:0", "127.0.0.1:0", "[::1]:0", "unix:/run/bitlane.sock"):
        assert RouterSettings(listen=listen).tls_files is None
    assert RouterSettings(listen="0.0.0.0:1", allow_plaintext=True).tls_files is None
    pair = RouterSettings(listen="0.0.0.0:1", tls_certificate_file=files.certificate, tls_key_file=files.key)
    assert pair.tls_files == files
