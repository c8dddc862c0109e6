"""Tokens: who is let in, what is refused, and how the issuer's keys are followed."""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from broker.types import Limits
from router.directory.directory import Directory
from router.faults import Fault
from router.identity.config import CertificateConfig, IdentityConfig, JwtConfig
from router.identity.key_ring import KeyRing, Pace, key_ring
from router.identity.key_set import MAX_BYTES, parse_key_set
from router.identity.sources import FileSource, UrlSource
from router.identity.tokens import Issuer, Principal, TokenRefused, Tokens
from router.scopes import Scope
from tests.tokens import AUDIENCE, ISSUER, IssuerServer, Signer, claims, key_set

SIGNERS = {name: Signer(f"{name}-1", name) for name in ("RS256", "ES256", "EdDSA", "ES384")}
GOOD = SIGNERS["ES256"]
HASTY = Pace(usual=0.05, after_failure=0.05, soonest=0.0)


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    """The issuer's key set in a file."""
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(*SIGNERS.values()))
    return path


async def tokens_of(jwks: Path, **settings: Any) -> Tokens:
    config = JwtConfig(name="idp", issuer=ISSUER, audience=AUDIENCE, jwks_file=jwks, **settings)
    ring = key_ring(config)
    await ring.refresh()
    return Tokens(Directory((), Limits()), [Issuer(config, ring)])


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_good_token_says_who_calls(jwks: Path, algorithm: str) -> None:
    tokens = await tokens_of(jwks)
    token = SIGNERS[algorithm].sign(claims(aud=["other", AUDIENCE], scope="openid infer admin operate"))
    expected = Principal("acme", "idp", frozenset((Scope.INFER, Scope.ADMIN)), "alice")
    assert tokens.principal(token) == expected
    assert tokens.principal(token) == expected  # remembered


@pytest.mark.parametrize(
    ("claim", "scopes"),
    [
        (None, {"infer", "read"}),
        ("read", {"read"}),
        (["infer", "admin"], {"infer", "admin"}),
        ("infer\tread  admin", {"infer", "read", "admin"}),
        ("operate", set[str]()),
        ("INFER", set[str]()),
        ("", set[str]()),
        ([], set[str]()),
        ([["infer"], {"read": 1}, None, 7], set[str]()),
    ],
)
async def test_scopes_come_from_the_claim_and_never_include_operate(
    jwks: Path, claim: object, scopes: set[str]
) -> None:
    tokens = await tokens_of(jwks, scopes_claim="permissions")
    assert tokens.principal(GOOD.sign(claims(permissions=claim))).scopes == scopes


async def test_claims_may_have_other_names(jwks: Path) -> None:
    tokens = await tokens_of(jwks, tenant_claim="https://example.org/tenant")
    token = GOOD.sign(claims(tenant=None, **{"https://example.org/tenant": "globex"}))
    assert tokens.principal(token).tenant == "globex"


@pytest.mark.parametrize(
    ("sub", "subject"),
    [
        (None, ""),
        ("auth0|5f7c", "auth0|5f7c"),
        ("a@example.org", "a@example.org"),
        ("globex/admin:x\n\x1b[31m", "globex%2Fadmin%3Ax%0A%1B%5B31m"),
        ("é\ud83d", "%C3%A9%3F"),
        ("x" * 1000, "x" * 128),
    ],
)
async def test_a_subject_is_printable_and_bounded(jwks: Path, sub: str | None, subject: str) -> None:
    tokens = await tokens_of(jwks)
    assert tokens.principal(GOOD.sign(claims(sub=sub))).subject == subject


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(header: dict[str, Any]) -> str:
    return f"{part(header)}.{part(claims())}."


def hmac_with(secret: bytes) -> str:
    """The classic: a public key, which everybody knows, taken for a shared secret."""
    head = f"{part({'alg': 'HS256', 'kid': 'RS256-1'})}.{part(claims())}"
    signature = hmac.new(secret, head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def public_pem() -> bytes:
    return SIGNERS["RS256"].key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def altered(token: str, **changed: Any) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{part(claims(**changed))}.{signature}"


REFUSED: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "no token": lambda: "hello",
    "dots": lambda: "..",
    "five parts, as encrypted ones": lambda: "a.b.c.d.e",
    "not base64": lambda: "!!.??.--",
    "not ASCII": lambda: "é.é.é",
    "no JSON": lambda: f"{base64.urlsafe_b64encode(b'{').decode()}.{part(claims())}.x",
    "no object": lambda: f"{part([])}.{part(claims())}.x",
    "claims are no object": lambda: f"{part({'alg': 'ES256', 'kid': GOOD.kid})}.{part('x')}.x",
    "deep": lambda: f"{base64.urlsafe_b64encode(b'[' * 4000).decode()}.{part(claims())}.x",
    "too long": lambda: GOOD.sign(claims(padding="x" * 8192)),
    "alg none": lambda: unsigned({"alg": "none", "kid": GOOD.kid}),
    "alg None": lambda: unsigned({"alg": "None", "kid": GOOD.kid}),
    "no alg": lambda: unsigned({"kid": GOOD.kid}),
    "alg is a list": lambda: unsigned({"alg": ["ES256"], "kid": GOOD.kid}),
    "kid is a list": lambda: unsigned({"alg": "ES256", "kid": [GOOD.kid]}),
    "HMAC with the public key": lambda: hmac_with(public_pem()),
    "HMAC with the key set": lambda: hmac_with(json.dumps(SIGNERS["RS256"].jwk).encode()),
    "an algorithm that is not allowed": lambda: SIGNERS["ES384"].sign(claims()),
    "another algorithm than the key's": lambda: GOOD.sign(claims(), kid="RS256-1"),
    "no kid": lambda: GOOD.sign(claims(), kid=None),
    "unknown kid": lambda: Signer("other").sign(claims()),
    "a key of the same name": lambda: Signer(GOOD.kid).sign(claims()),
    "critical extensions": lambda: GOOD.sign(claims(), crit=["b64"], b64=True),
    "detached": lambda: GOOD.sign(claims(), b64=False),
    "its own key": lambda: Signer("other").sign(claims(), jwk=Signer("other").jwk, jku="https://evil.test/"),
    "no signature": lambda: GOOD.sign(claims()).rpartition(".")[0] + ".",
    "altered": lambda: altered(GOOD.sign(claims()), tenant="globex"),
    "another issuer": lambda: GOOD.sign(claims(iss="https://other.test")),
    "issuer with a slash": lambda: GOOD.sign(claims(iss=ISSUER + "/")),
    "no issuer": lambda: GOOD.sign(claims(iss=None)),
    "another audience": lambda: GOOD.sign(claims(aud="other")),
    "other audiences": lambda: GOOD.sign(claims(aud=["other", "bitlane2"])),
    "no audience": lambda: GOOD.sign(claims(aud=None)),
    "audience is an object": lambda: GOOD.sign(claims(aud={"bitlane": 1})),
    "expired": lambda: GOOD.sign(claims(exp=time.time() - 31)),
    "never expires": lambda: GOOD.sign(claims(exp=None)),
    "expires at no time": lambda: GOOD.sign(claims(exp=float("nan"))),
    "expires at infinity": lambda: GOOD.sign(claims(exp=float("inf"))),
    "expiry is a list": lambda: GOOD.sign(claims(exp=[time.time() + 60])),
    "not yet valid": lambda: GOOD.sign(claims(nbf=time.time() + 600)),
    "issued in the future": lambda: GOOD.sign(claims(iat=time.time() + 600)),
    "no tenant": lambda: GOOD.sign(claims(tenant=None)),
    "tenant is a number": lambda: GOOD.sign(claims(tenant=7)),
    "tenant is a list": lambda: GOOD.sign(claims(tenant=["acme"])),
    "tenant is no id": lambda: GOOD.sign(claims(tenant="acme/x")),
    "tenant ends with a newline": lambda: GOOD.sign(claims(tenant="acme\n")),
    "a tenant that is not the issuer's": lambda: GOOD.sign(claims(tenant="initech")),
    "subject is a number": lambda: GOOD.sign(claims(sub=7)),
    "scopes are a number": lambda: GOOD.sign(claims(scope=7)),
    "scopes are an object": lambda: GOOD.sign(claims(scope={"infer": True})),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(jwks: Path, name: str) -> None:
    tokens = await tokens_of(jwks, tenants=("acme", "globex"))
    token = REFUSED[name]()
    for _ in range(2):
        with pytest.raises(TokenRefused) as caught:
            tokens.principal(token)
        assert "alice" not in str(caught.value)
    assert tokens.principal(GOOD.sign(claims())).tenant == "acme"


async def test_clocks_may_differ_by_the_leeway(jwks: Path) -> None:
    tokens = await tokens_of(jwks, leeway_s=60)
    assert tokens.principal(GOOD.sign(claims(exp=time.time() - 20, nbf=time.time() + 40, iat=time.time() + 40)))


async def test_a_remembered_token_ends_with_its_time_and_with_its_key(jwks: Path) -> None:
    tokens = await tokens_of(jwks, leeway_s=0)
    (issuer,) = tokens._issuers.values()  # pyright: ignore[reportPrivateUsage]
    brief, long = GOOD.sign(claims(exp=time.time() + 3)), GOOD.sign(claims())
    assert tokens.principal(brief)
    assert tokens.principal(long)
    await asyncio.sleep(3.1)
    with pytest.raises(TokenRefused, match="Expired"):
        tokens.principal(brief)
    jwks.write_bytes(key_set(SIGNERS["RS256"]))  # noqa: ASYNC240
    await issuer.ring.refresh()
    with pytest.raises(TokenRefused, match="its key is not one of the issuer's"):
        tokens.principal(long)


async def test_the_remembered_are_bounded(jwks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.identity.tokens._CACHE_SIZE", 10)
    tokens = await tokens_of(jwks)
    for number in range(30):
        tokens.principal(GOOD.sign(claims(jti=str(number))))
    assert len(tokens._verified) == 10  # pyright: ignore[reportPrivateUsage]


# The issuer's keys.


async def test_a_file_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    first, second = Signer("first"), Signer("second")
    path.write_bytes(key_set(first))
    ring = KeyRing("idp", FileSource(path), HASTY)
    await ring.refresh()
    running = asyncio.create_task(ring.run())
    try:
        assert ring.find("first")
        path.write_text('{"keys": [')  # half-written
        await until(lambda: ring._failed)  # pyright: ignore[reportPrivateUsage]
        assert ring.find("first")
        path.write_bytes(key_set(second))
        await until(lambda: ring.find("second") is not None)
        assert ring.find("first") is None
        path.unlink()
        await until(lambda: ring._failed)  # pyright: ignore[reportPrivateUsage]
        assert ring.find("second")
        path.write_bytes(key_set())  # this is said in so many words: no key is valid
        await until(lambda: ring.find("second") is None)
    finally:
        running.cancel()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def garbage(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"garbage\r\n\r\n")


def cut_off(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


@pytest.fixture
def issuer_server() -> Iterator[IssuerServer]:
    with IssuerServer() as server:
        yield server


async def test_a_url_is_asked_and_the_last_good_keys_stay(issuer_server: IssuerServer) -> None:
    ring = KeyRing("idp", UrlSource(issuer_server.url), HASTY)
    issuer_server.answer = issuer_server.gives(key_set(GOOD))
    await ring.refresh()
    assert ring.find(GOOD.kid)
    elsewhere = {"Location": issuer_server.url + "/elsewhere"}
    for bad in (
        issuer_server.gives(b"", 500),
        issuer_server.gives(b"", 404),
        issuer_server.gives(key_set(), 301, elsewhere),
        issuer_server.gives(key_set(), 307, elsewhere),
        issuer_server.gives(b"<html>"),
        issuer_server.gives(b"[]"),
        issuer_server.gives(b'{"keys": {}}'),
        issuer_server.gives(b"[" * 10_000),
        issuer_server.gives(b" " * (MAX_BYTES + 1) + key_set()),
        garbage,
        cut_off,
        issuer_server.gives(b"{", headers={"Content-Length": "100"}),
    ):
        issuer_server.answer = bad
        await ring.refresh()
        assert ring._failed  # pyright: ignore[reportPrivateUsage]
        assert ring.find(GOOD.kid)
        assert ring.generation == 1
    issuer_server.close()
    await ring.refresh()
    assert ring.find(GOOD.kid)


async def test_an_unknown_key_makes_it_ask_but_not_for_each_token(issuer_server: IssuerServer) -> None:
    ring = KeyRing("idp", UrlSource(issuer_server.url), Pace(usual=1000, after_failure=1000, soonest=0.3))
    issuer_server.answer = issuer_server.gives(key_set(GOOD))
    await ring.refresh()
    running = asyncio.create_task(ring.run())
    new = Signer("new")
    issuer_server.answer = issuer_server.gives(key_set(GOOD, new))
    began = time.monotonic()
    try:
        await until(lambda: ring.find("new") is not None)
        while time.monotonic() - began < 1.0:
            ring.find("never")
            await asyncio.sleep(0.001)
    finally:
        running.cancel()
    assert issuer_server.asked <= 2 + (time.monotonic() - began) / 0.3


async def test_an_issuer_that_hangs_holds_up_nobody(
    issuer_server: IssuerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.identity.key_ring.TIMEOUT_S", 0.1)
    go_on = threading.Event()
    good = issuer_server.gives(key_set(GOOD))

    def hangs(handler: BaseHTTPRequestHandler) -> None:
        go_on.wait(30)
        good(handler)

    issuer_server.answer = hangs
    ring = KeyRing("idp", UrlSource(issuer_server.url), HASTY)
    config = JwtConfig(name="idp", issuer=ISSUER, audience=AUDIENCE, jwks_url=issuer_server.url)
    tokens = Tokens(Directory((), Limits()), [Issuer(config, ring)])
    for _ in range(3):
        await ring.refresh()
    assert issuer_server.asked == 1  # nobody asks again while somebody waits
    # Whether the token is good cannot be told, so it is not called bad.
    with pytest.raises(Fault) as caught:
        tokens.principal(GOOD.sign(claims()))
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    # What can be told is.
    with pytest.raises(TokenRefused):
        tokens.principal(GOOD.sign(claims(iss="https://other.test")))
    running = asyncio.create_task(ring.run())
    go_on.set()
    await until(lambda: ring.ready)
    running.cancel()
    assert tokens.principal(GOOD.sign(claims()))


@pytest.mark.parametrize(
    "changed",
    [
        {"kid": None},
        {"kid": ""},
        {"kid": ["x"]},
        {"use": "enc"},
        {"key_ops": ["sign"]},
        {"key_ops": 7},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": ["EC"]},
        {"kty": None},
        {"kty": "RSA", "n": "AAAA", "e": "AQAB"},
        {"kty": "OKP", "crv": "X25519"},
        {"crv": "secp256k1"},
        {"crv": None},
        {"crv": {"a": 1}},
        {"alg": "RS256"},
        {"alg": "HS256"},
        {"alg": "none"},
        {"alg": ["ES256"]},
        {"x": "AAAA"},
        {"x": 7},
        {"y": None},
        {"d": "AAAA"},
    ],
    ids=str,
)
def test_keys_that_are_not_safe_are_left_out(changed: dict[str, object]) -> None:
    jwk = {name: value for name, value in (GOOD.jwk | changed).items() if value is not None}
    listed = {"keys": [jwk, "x", None, SIGNERS["RS256"].jwk]}
    assert set(parse_key_set(json.dumps(listed).encode())) == {"RS256-1"}


def test_short_rsa_keys_are_left_out() -> None:
    short = Signer("short", "RS256")
    short.key = rsa.generate_private_key(65537, 1024)
    assert not parse_key_set(key_set(short))


def settings_of(jwks: Path, **changed: object) -> dict[str, object]:
    good: dict[str, object] = {"name": "idp", "issuer": ISSUER, "audience": AUDIENCE, "jwks_file": jwks}
    return {name: value for name, value in (good | changed).items() if value is not None}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"jwks_file": None}, "give either jwks_file or jwks_url"),
        ({"jwks_url": "https://issuer.test/jwks"}, "give either jwks_file or jwks_url"),
        ({"jwks_file": "none.json"}, "jwks_file: .*none.json cannot be read: No such file"),
        ({"jwks_file": "broken.json"}, "jwks_file: .*broken.json is no JSON"),
        ({"jwks_file": "empty.json"}, "jwks_file: .*empty.json holds no key that can be used"),
        ({"algorithms": ["HS256"]}, "algorithms"),
        ({"algorithms": ["none"]}, "algorithms"),
        ({"algorithms": []}, "algorithms"),
        ({"leeway_s": 1000}, "leeway_s"),
        ({"name": "An IDP"}, "name"),
        *(
            ({"jwks_file": None, "jwks_url": url}, words)
            for url, words in {
                "http://issuer.test/jwks": "must be https",
                "http://127.0.0.1.nip.test/": "must be https",
                "http://localhost.test/": "must be https",
                "file:///etc/passwd": "is no URL of https",
                "ftp://issuer.test/": "is no URL of https",
                "https://": "is no URL of https",
                "https://[x/": "is no URL",
                "https://h:x/": "is no URL",
                "https://u:p@issuer.test/": "neither a user nor a fragment",
                "jwks": "is no URL of https",
            }.items()
        ),
    ],
    ids=str,
)
def test_what_is_wrong_with_an_issuer_is_said(jwks: Path, changed: dict[str, object], words: str) -> None:
    (jwks.parent / "broken.json").write_text("{")
    (jwks.parent / "empty.json").write_text('{"keys": []}')
    with pytest.raises(ValidationError, match=words):
        JwtConfig.model_validate(settings_of(jwks, **changed), context={"folder": jwks.parent})
    good = JwtConfig.model_validate(settings_of(jwks, jwks_file="jwks.json"), context={"folder": jwks.parent})
    assert good.jwks_file == jwks


@pytest.mark.parametrize("san", ["", "*", "*.example.org", "a b", "spiffe://", "spiffe://example.org/*", "a\n", "-a"])
def test_certificates_are_named_by_a_uri_or_a_dns_name(san: str) -> None:
    entry = {"san": san, "tenant": "acme", "name": "team-a"}
    with pytest.raises(ValidationError, match="is neither a URI"):
        CertificateConfig.model_validate(entry)
    assert CertificateConfig.model_validate(entry | {"san": "Team-A.example.org"}).san == "team-a.example.org"
    with pytest.raises(ValidationError, match="cannot have the scope operate"):
        CertificateConfig.model_validate(entry | {"san": "a", "scopes": ["operate"]})


def test_names_and_issuers_are_there_once(jwks: Path) -> None:
    one = settings_of(jwks)
    certificate = {"san": "a", "tenant": "acme", "name": "team-a"}
    for double, words in (
        ({"jwt": [one, one | {"issuer": "x"}]}, "jwt.name: idp is there twice"),
        ({"jwt": [one, one | {"name": "x"}]}, f"jwt.issuer: {ISSUER} is there twice"),
        ({"certificates": [certificate, certificate | {"tenant": "globex"}]}, "certificates.san: a is there twice"),
    ):
        with pytest.raises(ValidationError, match=words):
            IdentityConfig.model_validate(double)
