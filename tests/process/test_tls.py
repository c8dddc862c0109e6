"""A router beyond loopback's trust: TLS, clients' certificates, and tokens of other issuers, through real processes."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import yaml

import bitlane
from bitlane.v1 import policy_pb2 as ppb
from broker import Broker, BrokerOptions
from broker.documents import ANY
from broker.types import Change
from deploy.local.processes import Process
from deploy.local.stack import Stack
from tests.certificates import EXPIRED, Authority, Pair
from tests.process.scripted import ACME, ACME_ADMIN, GLOBEX, expected_text
from tests.tokens import AUDIENCE, ISSUER, IssuerServer, Signer, claims, key_set

URL_ISSUER = "https://by-url.test"
TEAM_A = "spiffe://example.org/team-a"
MODELS = "/bitlane.v1.InferenceService/ListModels"
GET_POLICY = "/bitlane.v1.PolicyService/GetPolicy"
VALIDATE = "/bitlane.v1.PolicyService/ValidatePolicy"
SAME_WORDS = "a valid API key is needed: send the metadata `authorization: Bearer bl_...`"


@dataclass
class Secure:
    """A router that speaks TLS only and wants clients' certificates."""

    process: Process
    target: str
    log: Path
    folder: Path  # of its certificate, its authorities and its key set
    authority: Authority  # of the server
    clients: Authority
    issuer: IssuerServer
    file_key: Signer
    url_key: Signer
    broker_url: str

    def tls(self, client: Pair | None) -> bitlane.Tls:
        return bitlane.Tls(
            root_certificates=self.authority.pem,
            certificate_chain=client.certificate if client else None,
            private_key=client.key if client else None,
        )

    def client(self, certificate: Pair | None, credential: str = "") -> bitlane.AsyncClient:
        retry = bitlane.RetryPolicy.none()
        return bitlane.AsyncClient(self.target, tls=self.tls(certificate), api_key=credential, retry=retry)

    async def call(self, method: str, body: bytes, certificate: Pair, metadata: Iterable[tuple[str, str]]) -> bytes:
        """Raw bytes over a connection of its own."""
        credentials = grpc.ssl_channel_credentials(self.authority.pem, certificate.key, certificate.certificate)
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(self.target, credentials, options) as channel:
            return cast("bytes", await channel.unary_unary(method)(body, metadata=tuple(metadata), timeout=20))

    async def code_of(self, credential: str, certificate: Pair | None = None) -> grpc.StatusCode:
        """How ListModels answers."""
        metadata = [("authorization", f"Bearer {credential}")] if credential else []
        try:
            await self.call(MODELS, b"", certificate or self.clients.issue("nobody.test"), metadata)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK


@pytest.fixture(scope="module")
def secure(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("secure")
    authority, clients = Authority("servers"), Authority("clients")
    certificate, key = authority.issue("localhost").write(folder)
    file_key, url_key = Signer("file-1"), Signer("url-1", "RS256")
    (folder / "jwks.json").write_bytes(key_set(file_key))
    with IssuerServer() as issuer:
        issuer.answer = issuer.gives(key_set(url_key))
        config = yaml.safe_load(Path("config/local.yaml").read_text(encoding="utf-8"))
        config["identity"] = {
            "jwt": [
                {"name": "idp", "issuer": ISSUER, "audience": AUDIENCE, "jwks_file": "jwks.json"},
                {"name": "by-url", "issuer": URL_ISSUER, "audience": AUDIENCE, "jwks_url": issuer.url},
            ],
            "certificates": [
                {"san": TEAM_A, "tenant": "acme", "name": "team-a"},
                {"san": "globex.test", "tenant": "globex", "name": "robot", "scopes": ["read"]},
                {"san": "lost.test", "tenant": "no-such-tenant", "name": "lost"},
            ],
        }
        (folder / "router.yaml").write_text(yaml.safe_dump(config))
        env = {
            "BITLANE_ROUTER_BROKER_URL": stack.server.url,
            "BITLANE_ROUTER_TLS_CERTIFICATE_FILE": str(certificate),
            "BITLANE_ROUTER_TLS_KEY_FILE": str(key),
            "BITLANE_ROUTER_TLS_CLIENT_CA_FILE": str(clients.write(folder, "clients")),
            "BITLANE_ROUTER_TLS_CLIENT_AUTH": "required",
        }
        arguments = ["--config", str(folder / "router.yaml"), "--listen", "localhost:0", "--log-format", "json"]
        log = folder / "router.log"
        process = Process("secure-router", "router", arguments, log, env)
        try:
            target = f"localhost:{process.wait_for('router.ready', 30.0)['port']}"
            yield Secure(process, target, log, folder, authority, clients, issuer, file_key, url_key, stack.server.url)
            assert process.returncode is None
        finally:
            process.terminate()
            assert process.wait(15.0) == 0


@pytest.fixture
async def broker(stack: Stack) -> AsyncIterator[Broker]:
    async with Broker(BrokerOptions(url=stack.server.url)) as broker:
        yield broker


async def until(condition: Callable[[], Any]) -> None:
    """Waits for something that comes true by itself."""
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.05)


async def test_a_certificate_with_an_entry_is_a_caller(secure: Secure) -> None:
    async with secure.client(secure.clients.issue(TEAM_A, "team-a.test")) as client:
        assert (await client.generate("hi", model="smollm2", max_tokens=3)).text == expected_text("hi", 3)
    async with secure.client(secure.clients.issue("Globex.test")) as client:
        assert await client.list_models()
        with pytest.raises(bitlane.PermissionDenied, match="no scope infer"):
            await client.generate("hi", model="smollm2", max_tokens=3)


def test_the_command_line_shows_a_certificate(secure: Secure) -> None:
    certificate, key = map(str, secure.clients.issue(TEAM_A).write(secure.folder, "team-a"))
    ca = str(secure.authority.write(secure.folder, "servers"))
    shown = ["--target", secure.target, "--ca", ca, "--cert", certificate, "--cert-key", key]
    done = subprocess.run(
        [sys.executable, "-m", "bitlane", *shown, "models"], check=False, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, "smollm2" in done.stdout) == (0, True), done.stderr


async def test_other_certificates_need_another_credential(secure: Secure) -> None:
    stranger = secure.clients.issue("stranger.test", "spiffe://example.org/team-b")
    async with secure.client(stranger, ACME) as client:
        assert (await client.generate("hi", model="smollm2", max_tokens=3)).text == expected_text("hi", 3)
    for certificate in (stranger, secure.clients.issue("lost.test"), secure.clients.issue(TEAM_A, "globex.test")):
        assert await secure.code_of("", certificate) is grpc.StatusCode.UNAUTHENTICATED
    # The names of a certificate are nothing that a caller could say.
    names = [("x509_subject_alternative_name", TEAM_A), ("x-forwarded-client-cert", f"URI={TEAM_A}")]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await secure.call(MODELS, b"", stranger, names)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_credential_in_the_metadata_is_judged_alone(secure: Secure) -> None:
    """A good certificate does not stand in for a bad key."""
    team_a = secure.clients.issue(TEAM_A)
    for bad in ("bl_wrong", "wrong", Signer("other").sign(claims())):
        assert await secure.code_of(bad, team_a) is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await secure.call(GET_POLICY, ppb.GetPolicyRequest(tenant="acme").SerializeToString(), team_a, bearer(GLOBEX))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND  # as globex


def bearer(credential: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {credential}")]


async def test_without_a_trusted_certificate_nobody_gets_a_connection(secure: Secure) -> None:
    stranger = Authority("stranger")
    bad = (None, stranger.issue(TEAM_A), secure.clients.issue(TEAM_A, lasts=EXPIRED), secure.authority.issue(TEAM_A))
    for certificate in bad:
        async with secure.client(certificate, ACME) as client:
            with pytest.raises(bitlane.ConnectionFailed):
                await client.list_models()
    async with bitlane.AsyncClient(secure.target, api_key=ACME, retry=bitlane.RetryPolicy.none()) as plain:
        with pytest.raises(bitlane.ConnectionFailed):
            await plain.list_models()
    trust = bitlane.Tls(root_certificates=stranger.pem)
    async with bitlane.AsyncClient(secure.target, tls=trust, retry=bitlane.RetryPolicy.none()) as client:
        with pytest.raises(bitlane.ConnectionFailed):
            await client.list_models()


async def test_a_certificate_is_renewed_under_running_streams(secure: Secure) -> None:
    renewed = Authority("renewed servers")
    old = secure.authority
    async with secure.client(secure.clients.issue(TEAM_A)) as client:
        stream = client.stream("hi", model="smollm2", max_tokens=150)
        await anext(aiter(stream))
        (secure.folder / "server.pem").write_text("half-written")
        assert await secure.code_of(ACME) is grpc.StatusCode.OK
        renewed.issue("localhost").write(secure.folder)
        secure.authority = renewed
        try:
            assert await secure.code_of(ACME) is grpc.StatusCode.OK
            result = await stream.result()
            assert result.text == expected_text("hi", 150)
            secure.authority = old
            assert await secure.code_of(ACME) is grpc.StatusCode.UNAVAILABLE
        finally:
            secure.authority = old
            old.issue("localhost").write(secure.folder)
    assert await secure.code_of(ACME) is grpc.StatusCode.OK
    assert '"event":"tls.bad"' in secure.log.read_text(encoding="utf-8")


async def test_a_token_is_a_caller(secure: Secure) -> None:
    counted = set[str | None]()
    for token in (secure.file_key.sign(claims()), secure.url_key.sign(claims(iss=URL_ISSUER))):
        async with secure.client(secure.clients.issue("nobody.test"), token) as client:
            assert (await client.generate("hi", model="smollm2", max_tokens=3)).text == expected_text("hi", 3)
            with pytest.raises(bitlane.PermissionDenied, match="no scope admin"):
                await client.policies.put("{}", etag="*")
            usage = await client.admin.usage(group_by=["key"])
            counted |= {row.key for row in usage}
    assert counted >= {"idp", "by-url"}


async def test_a_token_s_subject_is_in_what_it_changed(secure: Secure) -> None:
    token = secure.file_key.sign(claims(scope="read admin operate", sub="auth0|7f/x"))
    async with secure.client(secure.clients.issue("nobody.test"), token) as client:
        put = await client.policies.put("long_context_tokens: 900\n", etag="*")
        try:
            assert put.policy.author == "acme/idp:auth0|7f%2Fx"
            with pytest.raises(bitlane.PermissionDenied, match="no scope operate"):
                await client.policies.set_gate("smollm2", "code", "passed")
        finally:
            async with secure.client(secure.clients.issue("nobody.test"), ACME_ADMIN) as admin:
                await admin.policies.put("allow_uncalibrated_fp4: true\nlong_context_tokens: 1024\n", etag="*")


async def test_every_refusal_reads_the_same(secure: Secure) -> None:
    good, team = secure.file_key, secure.clients.issue("nobody.test")
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).decode().rstrip("=")
    body = good.sign(claims()).split(".")[1]
    refused = [
        [],
        bearer("bl_wrong"),
        bearer(""),
        bearer("x.y.z"),
        [("authorization", f"Basic {ACME}")],
        bearer(f"{header}.{body}."),
        bearer(good.sign(claims(tenant="no-such-tenant"))),
        bearer(good.sign(claims(tenant=None))),
        bearer(good.sign(claims(aud="other"))),
        bearer(good.sign(claims(iss="https://other.test"))),
        bearer(good.sign(claims(iss=URL_ISSUER))),
        bearer(good.sign(claims(exp=1))),
        bearer(good.sign(claims(nbf=4_000_000_000))),
        bearer(Signer("file-1").sign(claims())),
        bearer(Signer("unknown").sign(claims())),
        bearer(good.sign(claims(padding="x" * 6_500))),  # above 8 KiB, which the transport lets through
        bearer(good.sign(claims())) + bearer(ACME),
    ]
    answers = set[tuple[grpc.StatusCode, str | None, bytes]]()
    for metadata in refused:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await secure.call(MODELS, b"", team, metadata)
        trailers = dict(cast("Iterable[tuple[str, bytes]]", caught.value.trailing_metadata()))
        answers.add((caught.value.code(), caught.value.details(), trailers["grpc-status-details-bin"]))
    ((code, details, _),) = answers
    assert (code, details) == (grpc.StatusCode.UNAUTHENTICATED, SAME_WORDS)


async def test_a_long_token_is_let_in(secure: Secure) -> None:
    token = secure.file_key.sign(claims(padding="x" * 5_800))
    assert 8_000 < len(token) <= 8_192
    assert await secure.code_of(token) is grpc.StatusCode.OK


async def test_tokens_and_certificates_end_with_their_tenant(secure: Secure, broker: Broker) -> None:
    token = secure.file_key.sign(claims(tenant="fleeting"))
    change = Change("UpdateTenant", "fleeting")

    async def put(state: str) -> None:
        text = json.dumps({"uid": "u1", "created_ms": 1, "state": state}) if state else ""
        await broker.documents.put("tenant/fleeting", text, author="test", etag=ANY, audit=change)

    for state, code in (
        ("active", grpc.StatusCode.OK),
        ("suspended", grpc.StatusCode.PERMISSION_DENIED),
        ("active", grpc.StatusCode.OK),
        ("", grpc.StatusCode.UNAUTHENTICATED),
    ):
        await put(state)

        async def answered(code: grpc.StatusCode = code) -> bool:
            return await secure.code_of(token) is code

        await until(answered)


async def test_keys_of_a_file_are_rotated(secure: Secure) -> None:
    old, new = secure.file_key, Signer("file-2", "EdDSA")
    before, after = old.sign(claims()), new.sign(claims())
    assert await secure.code_of(before) is grpc.StatusCode.OK
    assert await secure.code_of(after) is grpc.StatusCode.UNAUTHENTICATED
    path = secure.folder / "jwks.json"
    path.write_bytes(key_set(old, new))
    await until(lambda: is_ok(secure, after))
    assert await secure.code_of(before) is grpc.StatusCode.OK
    path.write_text("{")  # nonsense changes nothing
    assert await secure.code_of(after) is grpc.StatusCode.OK
    path.write_bytes(key_set(new))
    await until(lambda: is_refused(secure, before))  # though it was good a moment ago
    assert await secure.code_of(after) is grpc.StatusCode.OK
    path.write_bytes(key_set(old))
    await until(lambda: is_ok(secure, before))


async def is_ok(secure: Secure, token: str) -> bool:
    return await secure.code_of(token) is grpc.StatusCode.OK


async def is_refused(secure: Secure, token: str) -> bool:
    return await secure.code_of(token) is grpc.StatusCode.UNAUTHENTICATED


async def test_keys_of_a_url_are_rotated(secure: Secure) -> None:
    old, new = secure.url_key, Signer("url-2")
    before, after = (signer.sign(claims(iss=URL_ISSUER)) for signer in (old, new))
    assert await secure.code_of(before) is grpc.StatusCode.OK
    secure.issuer.answer = secure.issuer.gives(b"down", 503)
    assert await secure.code_of(after) is grpc.StatusCode.UNAUTHENTICATED
    assert await secure.code_of(before) is grpc.StatusCode.OK
    secure.issuer.answer = secure.issuer.gives(key_set(new))
    await until(lambda: is_ok(secure, after))
    assert await secure.code_of(before) is grpc.StatusCode.UNAUTHENTICATED
    secure.issuer.answer = secure.issuer.gives(key_set(old))
    await until(lambda: is_ok(secure, before))


async def test_the_log_holds_no_credential(secure: Secure) -> None:
    token = secure.file_key.sign(claims(sub="somebody"))
    for credential in (token, token + "x", "bl_secret-of-somebody", ACME):
        await secure.code_of(credential)
    text = secure.log.read_text(encoding="utf-8")
    assert '"event":"token.refused"' in text
    for secret in (token[:40], token[-40:], "secret-of-somebody", ACME, "somebody", "PRIVATE"):
        assert secret not in text


def bad_start(folder: Path, settings: dict[str, str], identity: dict[str, Any] | None) -> Process:
    """A router that must not start; its log is in the folder."""
    folder.mkdir()
    config = yaml.safe_load(Path("config/local.yaml").read_text(encoding="utf-8"))
    (folder / "router.yaml").write_text(yaml.safe_dump(config | ({"identity": identity} if identity else {})))
    env = {f"BITLANE_ROUTER_{name.upper()}": value for name, value in settings.items()}
    arguments = ["--config", str(folder / "router.yaml"), "--listen", "localhost:0"]
    return Process("bad-router", "router", arguments, folder / "router.log", env)


def test_what_keeps_a_router_from_starting_is_said(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = map(str, authority.issue("localhost").write(tmp_path))
    _, other = map(str, authority.issue("localhost").write(tmp_path, "other"))
    pair = {"tls_certificate_file": certificate, "tls_key_file": key}
    entry = {"san": TEAM_A, "tenant": "acme", "name": "team-a"}
    cases: list[tuple[dict[str, str], dict[str, Any] | None, str]] = [
        (
            pair | {"tls_key_file": other},
            None,
            f"tls_key_file: {other} is not the key of the certificate in {certificate}",
        ),
        (pair, {"certificates": [entry]}, "identity.certificates: needs the setting tls_client_auth=required"),
        ({"broker_url": "redis://u:hunter2/x@h"}, None, "broker_url: the broker's URL cannot be read"),
    ]
    started = [bad_start(tmp_path / str(n), *case[:2]) for n, case in enumerate(cases)]
    for number, (process, (_, _, words)) in enumerate(zip(started, cases, strict=True)):
        assert process.wait(60.0) == 2
        said = (tmp_path / str(number) / "router.log").read_text(encoding="utf-8")
        assert words in said
        assert "Traceback" not in said
        assert "hunter2" not in said


def test_a_taken_address_is_said(secure: Secure, tmp_path: Path) -> None:
    env = {"BITLANE_ROUTER_BROKER_URL": secure.broker_url}
    arguments = ["--config", "config/local.yaml", "--listen", secure.target]
    process = Process("second-router", "router", arguments, tmp_path / "router.log", env)
    assert process.wait(30.0) == 1
    assert f"cannot listen on {secure.target}: the address is taken" in (tmp_path / "router.log").read_text()
