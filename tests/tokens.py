"""An issuer of a test's own: keys, key sets, and the tokens signed with them."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://issuer.test"
AUDIENCE = "bitlane"


class Signer:
    """One key of the issuer."""

    def __init__(self, kid: str, algorithm: str = "ES256") -> None:
        self.kid = kid
        self.algorithm = algorithm
        make = {
            "RS": lambda: rsa.generate_private_key(65537, 2048),
            "PS": lambda: rsa.generate_private_key(65537, 2048),
            "ES": lambda: ec.generate_private_key(ec.SECP384R1() if algorithm == "ES384" else ec.SECP256R1()),
            "Ed": ed25519.Ed25519PrivateKey.generate,
        }
        self.key: Any = make[algorithm[:2]]()

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key, as an issuer publishes it."""
        kind: Any = {"RS": RSAAlgorithm, "PS": RSAAlgorithm, "ES": ECAlgorithm, "Ed": OKPAlgorithm}[self.algorithm[:2]]
        return kind.to_jwk(self.key.public_key(), as_dict=True) | {"kid": self.kid, "use": "sig"}

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """A token with these claims; header fields that are None are left out."""
        header = {"kid": self.kid} | header
        return jwt.encode(claims, self.key, self.algorithm, {k: v for k, v in header.items() if v is not None})


def claims(**changed: Any) -> dict[str, Any]:
    """Those of a good token of tenant acme; what is None is left out."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "tenant": "acme", "iat": now, "exp": now + 300}
    return {name: value for name, value in (good | changed).items() if value is not None}


def key_set(*signers: Signer) -> bytes:
    """The key set with their public keys."""
    return json.dumps({"keys": [signer.jwk for signer in signers]}).encode()


Answer = Callable[[BaseHTTPRequestHandler], None]


class IssuerServer:
    """An HTTP server on loopback that answers as it is told."""

    def __init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                outer.answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.asked = 0
        self.answer: Answer = self.gives(b'{"keys": []}')
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/jwks"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @staticmethod
    def gives(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body)

        return answer

    def close(self) -> None:
        """It is away from now on. Safe to call twice."""
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
