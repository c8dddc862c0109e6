"""An issuer's public keys, as JSON Web Key Sets (RFC 7517) tell them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

MAX_BYTES = 64 << 10
_MIN_RSA_BITS = 2048
_log = structlog.get_logger("bitlane.router")

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
_RSA = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"))
# What a key may verify follows from the key, never from a token.
_ALGORITHMS = {
    ("RSA", None): _RSA,
    ("EC", "P-256"): frozenset(("ES256",)),
    ("EC", "P-384"): frozenset(("ES384",)),
    ("EC", "P-521"): frozenset(("ES512",)),
    ("OKP", "Ed25519"): frozenset(("EdDSA",)),
}


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key, and the algorithms whose signatures it may verify."""

    key: PublicKey
    algorithms: frozenset[str]


def parse_key_set(text: bytes) -> Mapping[str, VerifyingKey]:
    """The keys by their id. Keys for other purposes, without an id, or of a kind that is not safe, are left out.

    Raises:
        ValueError: it is no key set; the message follows the name of its source.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES >> 10} KiB")
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("is no JSON") from None
    listed: Any = cast("dict[str, Any]", data).get("keys") if isinstance(data, dict) else None
    if not isinstance(listed, list):
        raise ValueError('is no key set: it must be an object with a list "keys"')
    keys: dict[str, VerifyingKey] = {}
    for number, entry in enumerate(cast("list[Any]", listed)):
        try:
            kid, key = _key(entry)
        except ValueError as reason:
            _log.warning("jwks.key_left_out", number=number, reason=str(reason))
            continue
        keys.setdefault(kid, key)
    return keys


def _key(entry: Any) -> tuple[str, VerifyingKey]:
    """Raises ValueError for a key that is left out."""
    if not isinstance(entry, dict):
        raise ValueError("is no object")
    jwk = cast("dict[str, Any]", entry)
    kid = jwk.get("kid")
    if not isinstance(kid, str) or not kid:
        raise ValueError("has no kid")
    operations: Any = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("is not for verifying signatures")
    curve = None if jwk.get("kty") == "RSA" else jwk.get("crv")
    algorithms = next((a for kind, a in _ALGORITHMS.items() if kind == (jwk.get("kty"), curve)), None)
    if algorithms is None:
        raise ValueError("is no RSA, P-256, P-384, P-521 or Ed25519 key")
    if "alg" in jwk:
        algorithms &= {jwk["alg"]} if isinstance(jwk["alg"], str) else set[str]()
    if not algorithms:
        raise ValueError("is for an algorithm that its kind of key does not have")
    if "d" in jwk:
        raise ValueError("is a private key, which must not be published")
    try:
        key = jwt.PyJWK(jwk, min(algorithms)).key
    except Exception:  # it raises many kinds for numbers that are none
        raise ValueError("is broken") from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        raise ValueError(f"has fewer than {_MIN_RSA_BITS} bits")
    return kid, VerifyingKey(key, algorithms)
