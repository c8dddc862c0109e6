"""Tokens of other issuers: `authorization: Bearer <JSON Web Token>` (RFC 7519)."""

import base64
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

import grpc
import jwt
import structlog

from router.directory.directory import Directory
from router.directory.stored import NAME
from router.faults import Fault, unauthenticated
from router.identity.authentication import Context, bearer
from router.identity.caller import Caller
from router.identity.config import JwtConfig
from router.identity.key_ring import KeyRing
from router.scopes import DEFAULT_SCOPES, TENANT_SCOPES, Scope

_MAX_BYTES = 8 << 10
_CACHE_S = 60.0
_CACHE_SIZE = 10_000
_MAX_SUBJECT = 128
_OPTIONS: Any = {"require": ["exp", "iss", "aud"]}
_log = structlog.get_logger("bitlane.router")


class TokenRefused(Exception):
    """The token lets nobody in. The message is for the log and holds nothing of the token."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a token speaks of."""

    tenant: str
    key: str  # the issuer's name in the configuration
    scopes: frozenset[Scope]
    subject: str  # printable and bounded; empty: not told


@dataclass(frozen=True, slots=True)
class _Verified:
    principal: Principal
    until: float  # s since the epoch
    ring: KeyRing
    generation: int  # of the ring, when the token was verified


class Issuer:
    """Verifies the tokens of one issuer."""

    def __init__(self, config: JwtConfig, ring: KeyRing) -> None:
        self.config = config
        self.ring = ring

    def verify(self, token: str, header: Mapping[str, Any]) -> tuple[Principal, float]:
        """Whom the token speaks of, and until when it does, in s since the epoch.

        Raises:
            TokenRefused
        """
        config = self.config
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in config.algorithms:
            raise TokenRefused("its algorithm is not one of the issuer's")
        if "crit" in header:
            raise TokenRefused("it has critical extensions")
        key = self.ring.find(kid) if isinstance(kid, str) else None
        if key is None:
            raise TokenRefused("its key is not one of the issuer's")
        if algorithm not in key.algorithms:
            raise TokenRefused("its algorithm is not the key's")
        try:
            claims = jwt.decode(
                token,
                key=key.key,
                algorithms=[algorithm],
                audience=config.audience,
                issuer=config.issuer,
                leeway=config.leeway_s,
                options=_OPTIONS,
            )
        except jwt.PyJWTError as error:
            raise TokenRefused(type(error).__name__) from None
        return self._principal(claims), float(claims["exp"]) + config.leeway_s

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        tenant: object = claims.get(self.config.tenant_claim)
        if not isinstance(tenant, str) or not NAME.fullmatch(tenant):
            raise TokenRefused(f"its claim {self.config.tenant_claim} names no tenant")
        if self.config.tenants and tenant not in self.config.tenants:
            raise TokenRefused("the issuer may not speak for its tenant")
        subject: object = claims.get("sub")
        return Principal(
            tenant=tenant,
            key=self.config.name,
            scopes=_scopes(claims.get(self.config.scopes_claim)),
            subject=quote(subject, "@|+", errors="replace")[:_MAX_SUBJECT] if isinstance(subject, str) else "",
        )


class Tokens:
    """Callers with a token.

    Verified ones are remembered by their hash for a while, until the issuer's keys change.
    """

    def __init__(self, directory: Directory, issuers: Sequence[Issuer]) -> None:
        self._directory = directory
        self._issuers = {issuer.config.issuer: issuer for issuer in issuers}
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    def __call__(self, context: Context) -> Caller | None:
        token = bearer(context)
        if token is None:
            return None
        try:
            principal = self.principal(token)
            tenant = self._directory.tenant(principal.tenant)
            if tenant is None:
                raise TokenRefused("there is no such tenant")
        except TokenRefused as reason:
            _log.info("token.refused", reason=str(reason))
            raise unauthenticated() from None
        return Caller(tenant, principal.key, principal.scopes, subject=principal.subject)

    def principal(self, token: str) -> Principal:
        """Whom a valid token speaks of.

        Raises:
            TokenRefused: it is not valid.
            Fault: UNAVAILABLE, its issuer's keys have never been read.
        """
        if len(token) > _MAX_BYTES:
            raise TokenRefused("it is too long")
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        now = time.time()
        known = self._verified.pop(digest, None)
        if known is not None and now < known.until and known.generation == known.ring.generation:
            self._verified[digest] = known  # the last used is the last to leave
            return known.principal
        header, issuer = self._peek(token)
        if not issuer.ring.ready:
            issuer.ring.want()
            raise _unknown_yet()
        generation = issuer.ring.generation
        principal, ends = issuer.verify(token, header)
        self._verified[digest] = _Verified(principal, min(ends, now + _CACHE_S), issuer.ring, generation)
        if len(self._verified) > _CACHE_SIZE:
            self._verified.popitem(last=False)
        return principal

    def _peek(self, token: str) -> tuple[Mapping[str, Any], Issuer]:
        """The header, and who claims to have issued it. Nothing of that is true before the signature is verified."""
        parts = token.split(".")
        if len(parts) != 3:
            raise TokenRefused("it is no JSON Web Token")
        header, claims = _object(parts[0]), _object(parts[1])
        issuer = claims.get("iss")
        found = self._issuers.get(issuer) if isinstance(issuer, str) else None
        if found is None:
            raise TokenRefused("its issuer is not in the configuration")
        return header, found


def _unknown_yet() -> Fault:
    """Not the caller's fault: whether the token is valid cannot be told."""
    return Fault(
        grpc.StatusCode.UNAVAILABLE,
        "IDENTITY_UNAVAILABLE",
        "the keys of the token's issuer cannot be read; try again",
        retry_after_s=1.0,
    )


def _object(part: str) -> Mapping[str, Any]:
    try:
        value: object = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        raise TokenRefused("it is no JSON Web Token") from None
    if not isinstance(value, dict):
        raise TokenRefused("it is no JSON Web Token")
    return cast("dict[str, Any]", value)


def _scopes(claim: object) -> frozenset[Scope]:
    """The scopes that the claim names, among others perhaps; never operate."""
    if claim is None:
        return DEFAULT_SCOPES
    words: object = claim.split() if isinstance(claim, str) else claim
    if not isinstance(words, list):
        raise TokenRefused("its scopes are neither a text nor a list")
    return frozenset(scope for scope in TENANT_SCOPES if scope.value in words)
