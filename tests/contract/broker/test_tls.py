"""TLS and passwords between the broker's client and a real server; and that no error shows a password.

A server that was built without TLS is put behind a relay that ends it.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from broker import Broker, BrokerOptions
from broker.endpoint import parse_endpoint
from broker.settings import BrokerSettings
from broker.types import BrokerUnavailable
from deploy.local.server import LocalServer, ServerFailed, free_port
from tests.certificates import EXPIRED, Authority, Pair
from tests.contract.broker.requests import POOL
from tests.contract.broker.test_unavailable import assert_all_work

PASSWORD = "hunter2-%/?#@:"
QUOTED = "hunter2-%25%2F%3F%23%40%3A"


@pytest.fixture
def authority() -> Authority:
    return Authority()


@asynccontextmanager
async def tls_server(binary: Path, pair: Pair, client_ca: Path | None = None) -> AsyncGenerator[str]:
    """A server that speaks TLS with this certificate; yields its URL."""
    port = free_port()
    with LocalServer(binary=binary) as server:
        certificate, key = pair.write(server.socket.parent)
        settings = {
            "tls-port": str(port),
            "tls-cert-file": str(certificate),
            "tls-key-file": str(key),
            "tls-ca-cert-file": str(client_ca or certificate),
            "tls-auth-clients": "yes" if client_ca else "no",
        }
        server.kill()
        server.settings |= settings
        try:
            server.start()
        except ServerFailed as error:
            if "TLS" not in str(error):
                raise
            server.settings.clear()
            server.start()
            async with relay(server, port, certificate, key, client_ca):
                yield f"rediss://localhost:{port}"
            return
        yield f"rediss://localhost:{port}"


@asynccontextmanager
async def relay(
    server: LocalServer, port: int, certificate: Path, key: Path, client_ca: Path | None
) -> AsyncGenerator[None]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
    context.load_cert_chain(certificate, key)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                while data := await source.read(1 << 16):
                    target.write(data)
                    await target.drain()
        finally:
            target.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.add(cast("asyncio.Task[None]", asyncio.current_task()))
        there, back = await asyncio.open_unix_connection(str(server.socket))
        await asyncio.gather(copy(reader, back), copy(there, writer))

    lines: set[asyncio.Task[None]] = set()
    listener = await asyncio.start_server(connected, "localhost", port, ssl=context)
    try:
        yield
    finally:
        listener.close()
        for line in lines:
            line.cancel()
        await asyncio.gather(*lines, return_exceptions=True)
        await asyncio.sleep(0)  # sockets close in the next turn of the loop


@pytest.fixture
async def url(server_binary: Path, authority: Authority) -> AsyncIterator[str]:
    """Of a server with a good certificate."""
    async with tls_server(server_binary, authority.issue("localhost", "127.0.0.1")) as url:
        yield url


async def why_not(options: BrokerOptions) -> str:
    """What a call says that cannot reach the server."""
    async with Broker(options) as broker:
        with pytest.raises(BrokerUnavailable) as caught:
            await broker.pools([POOL])
        return str(caught.value)


def options_for(url: str, ca: Path | None = None, client: tuple[Path, Path] | None = None) -> BrokerOptions:
    certificate, key = map(str, client) if client else (None, None)
    return BrokerOptions(
        url=url,
        timeout_s=5,
        tls_ca_file=str(ca) if ca else None,
        tls_certificate_file=certificate,
        tls_key_file=key,
    )


async def test_all_works_over_tls(url: str, authority: Authority, tmp_path: Path) -> None:
    async with Broker(options_for(url, authority.write(tmp_path))) as broker:
        await assert_all_work(broker, "r1")


async def test_a_server_that_cannot_be_trusted_is_not_talked_to(
    server_binary: Path, authority: Authority, tmp_path: Path
) -> None:
    ca, other = authority.write(tmp_path), Authority("other").write(tmp_path, "other")
    async with tls_server(server_binary, authority.issue("localhost")) as url:
        assert "certificate verify failed" in await why_not(options_for(url, other))
        assert "certificate verify failed" in await why_not(options_for(url))  # the system's authorities
        assert "IP address mismatch" in await why_not(options_for(url.replace("localhost", "127.0.0.1"), ca))
    async with tls_server(server_binary, authority.issue("localhost", lasts=EXPIRED)) as url:
        assert "certificate has expired" in await why_not(options_for(url, ca))


async def test_a_client_that_the_server_does_not_trust(
    server_binary: Path, authority: Authority, tmp_path: Path
) -> None:
    clients = Authority("clients")
    ca = authority.write(tmp_path)
    pair = authority.issue("localhost")
    async with tls_server(server_binary, pair, clients.write(tmp_path, "clients")) as url:
        assert "the server may want a certificate: set tls_certificate_file" in await why_not(options_for(url, ca))
        for bad in (Authority("stranger").issue("worker"), clients.issue("worker", lasts=EXPIRED)):
            said = await why_not(options_for(url, ca, bad.write(tmp_path, "client")))
            assert "the server may not accept the certificate in tls_certificate_file" in said
        async with Broker(options_for(url, ca, clients.issue("worker").write(tmp_path, "client"))) as broker:
            await assert_all_work(broker, "r1")


async def test_plaintext_and_tls_do_not_meet(url: str, shared_server: LocalServer) -> None:
    assert "cannot connect" in await why_not(options_for(url.replace("rediss", "redis")))
    plain = replace(options_for(f"rediss://127.0.0.1:{shared_server.port}"), timeout_s=0.5)
    assert re.search("SSL|no answer in time", await why_not(plain))


async def test_renewed_files_are_used_by_the_next_connection(
    server_binary: Path, authority: Authority, tmp_path: Path
) -> None:
    """Authority, certificate and key are replaced under a running client, first with nonsense in between."""
    clients = Authority("clients")
    ca = Authority("not yet").write(tmp_path)
    files = Authority("not yet").issue("worker").write(tmp_path, "client")
    async with (
        tls_server(server_binary, authority.issue("localhost"), clients.write(tmp_path, "clients")) as url,
        Broker(options_for(url, ca, files)) as broker,
    ):
        with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
            await broker.pools([POOL])
        authority.write(tmp_path)
        files[0].write_text("half-written")
        with pytest.raises(BrokerUnavailable, match=r"tls_certificate_file: .*client.pem and .*client-key.pem do"):
            await broker.pools([POOL])
        clients.issue("worker").write(tmp_path, "client")
        await assert_all_work(broker, "r1")


@pytest.fixture
def guarded_server(server_binary: Path) -> Iterator[LocalServer]:
    with LocalServer(binary=server_binary, port=0, settings={"requirepass": PASSWORD}) as server:
        yield server


async def test_passwords_are_taken_from_the_url_or_from_a_file(guarded_server: LocalServer, tmp_path: Path) -> None:
    server, file = guarded_server, tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    place = f"127.0.0.1:{server.port}"
    for options in (
        BrokerOptions(url=f"redis://:{QUOTED}@{place}"),
        BrokerOptions(url=f"redis://default:{QUOTED}@{place}"),
        BrokerOptions(url=f"redis://{place}", password_file=str(file)),
        BrokerOptions(url=f"redis://default@{place}", password_file=str(file)),
        BrokerOptions(url=server.url, password_file=str(file)),
    ):
        async with Broker(options) as broker:
            assert await broker.pools([POOL])
    assert "NOAUTH" in await why_not(BrokerOptions(url=f"redis://{place}"))
    for user in ("", "default", "nobody"):
        said = await why_not(BrokerOptions(url=f"redis://{user}:wrong-{QUOTED}@{place}"))
        assert "WRONGPASS" in said
        assert "hunter2" not in said


async def test_a_changed_password_is_read_from_its_file(guarded_server: LocalServer, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("not yet")
    async with Broker(BrokerOptions(url=guarded_server.url, password_file=str(file))) as broker:
        for bad, words in (("not yet", "WRONGPASS"), ("", "is empty")):
            file.write_text(bad)
            with pytest.raises(BrokerUnavailable, match=words):
                await broker.pools([POOL])
        file.unlink()
        with pytest.raises(BrokerUnavailable, match=f"password_file: {file} cannot be read: No such file"):
            await broker.pools([POOL])
        file.write_text(PASSWORD)
        await assert_all_work(broker, "r1")


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2/x@host:6379",
        "redis://user:hunter2?x@host:6379",
        "redis://user:hunter2#x@host:6379",
        "redis://user:1/hunter2@host:6379",
        "redis://user:x[hunter2@host:6379",
        "redis://user:hunter2@host:port",
        "redis://user:hunter2@host:99999",
        "redis://user:hunter2@host/zero",
        "redis://user:hunter2@host?db=hunter2",
        "http://user:hunter2@host",
        "hunter2://host",
        "user:hunter2@host:6379",
        "hunter2",
        "",
    ],
)
def test_a_bad_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"^url: the broker's URL") as caught:
        parse_endpoint(BrokerOptions(url=url))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValueError, match="broker_url: the broker's URL") as caught:
        BrokerSettings.model_validate({"broker_url": url})
    assert "hunter2" not in str(caught.value)


def test_a_password_is_in_no_representation() -> None:
    options = BrokerOptions(url="redis://user:hunter2@host")
    settings = BrokerSettings.model_validate({"broker_url": options.url})
    endpoint = parse_endpoint(options)
    assert "hunter2" not in f"{options!r} {settings!r} {endpoint!r} {endpoint} {endpoint.login!r}"
    assert endpoint.login.credentials() == ("user", "hunter2")
    assert settings.broker_options() == options


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"password_file": "{key}", "url": "redis://u:p@h"}, "password_file: the URL has a password too"),
        ({"url": "redis://u@h"}, "password_file: the URL names a user and no password"),
        ({"password_file": "{folder}/none"}, "password_file: .*none cannot be read: No such file"),
        ({"url": "redis://h", "tls_ca_file": "{ca}"}, "tls_ca_file: is of no use without TLS; write .* as rediss://"),
        ({"tls_ca_file": "{folder}/none"}, "tls_ca_file: .*none cannot be read: No such file"),
        ({"tls_ca_file": "{key}"}, "tls_ca_file: .*key.pem holds no certificate in PEM"),
        ({"tls_key_file": "{key}"}, "tls_certificate_file: is needed together with tls_key_file"),
        ({"tls_certificate_file": "{ca}", "tls_key_file": "{key}"}, "tls_certificate_file: .* do not hold a cert"),
        ({"tls_certificate_file": "{ca}"}, "tls_certificate_file: .*ca.pem do not hold a certificate and its key"),
    ],
)
def test_what_is_wrong_with_the_login_is_said(
    more: dict[str, str], words: str, authority: Authority, tmp_path: Path
) -> None:
    _, key = authority.issue("client").write(tmp_path, "client")
    places = {"ca": authority.write(tmp_path), "key": key, "folder": tmp_path}
    settings = {"url": "rediss://h"} | {name: text.format(**places) for name, text in more.items()}
    with pytest.raises(ValueError, match=f"^{words}"):
        parse_endpoint(BrokerOptions(**settings))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=f"broker_{words}"):
        BrokerSettings.model_validate({f"broker_{name}": text for name, text in settings.items()})
