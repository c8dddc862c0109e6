"""What the configuration says about callers without an API key: tokens of other issuers, and certificates."""

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator

from router.addresses import is_loopback
from router.identity.key_set import parse_key_set
from router.scopes import DEFAULT_SCOPES, Scope
from router.seeds import Name, Part

# Of private and public key only: with a shared secret, whoever can check a token can make one.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
Text = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_DNS = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9])?)*")
_URI = re.compile(r"[a-z][a-z0-9+.-]*://[^\s*]+")


class JwtConfig(Part):
    """An issuer whose tokens (RFC 7519) let callers in."""

    name: Name  # what its callers are counted under, as a key's name
    issuer: Text  # the claim iss, exactly
    audience: Text  # must be in the claim aud
    jwks_file: Path | None = None  # from the folder of the configuration; followed when it changes
    jwks_url: str | None = None  # https, or http on this machine; asked again every few minutes
    tenant_claim: Text = "tenant"
    tenants: tuple[Name, ...] = ()  # that this issuer may speak for; empty: all
    scopes_claim: Text = "scope"  # a list, or a text with spaces; a token without the claim gets infer and read
    algorithms: tuple[Algorithm, ...] = Field(default=("RS256", "ES256", "EdDSA"), min_length=1)
    leeway_s: float = Field(default=30.0, ge=0, le=300)  # by which clocks may differ

    @field_validator("jwks_url")
    @classmethod
    def _safe_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url)
            port_is_right = parts.port is None or parts.port > 0
        except ValueError:
            raise ValueError("is no URL") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_right:
            raise ValueError("is no URL of https://")
        if parts.username is not None or parts.fragment:
            raise ValueError("must have neither a user nor a fragment")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("must be https: over http anybody between could put a key of their own")
        return url

    @model_validator(mode="after")
    def _one_source(self, info: ValidationInfo) -> "JwtConfig":
        if (self.jwks_file is None) == (self.jwks_url is None):
            raise ValueError("give either jwks_file or jwks_url")
        if self.jwks_file is not None:
            folder: Path = info.context["folder"] if info.context else Path()
            path = folder / self.jwks_file
            object.__setattr__(self, "jwks_file", path)
            try:
                keys = parse_key_set(path.read_bytes())
            except OSError as error:
                raise ValueError(f"jwks_file: {path} cannot be read: {error.strerror}") from None
            except ValueError as error:
                raise ValueError(f"jwks_file: {path} {error}") from None
            if not keys:
                raise ValueError(f"jwks_file: {path} holds no key that can be used")
        return self


class CertificateConfig(Part):
    """A client's certificate that lets in whoever shows it."""

    san: Annotated[str, StringConstraints(max_length=256)]  # one of its alternative names: a URI or a DNS name
    tenant: Name
    name: Name  # what its callers are counted under, as a key's name
    scopes: frozenset[Scope] = DEFAULT_SCOPES

    @field_validator("san")
    @classmethod
    def _a_name(cls, san: str) -> str:
        if _URI.fullmatch(san):
            return san
        if not _DNS.fullmatch(san.lower()):
            raise ValueError("is neither a URI, such as spiffe://example.org/team-a, nor a DNS name without a *")
        return san.lower()

    @field_validator("scopes")
    @classmethod
    def _no_operator(cls, scopes: frozenset[Scope]) -> frozenset[Scope]:
        if Scope.OPERATE in scopes:
            raise ValueError("a tenant's certificate cannot have the scope operate; operators use keys")
        return scopes


class IdentityConfig(Part):
    """The ways to a caller beside API keys."""

    jwt: tuple[JwtConfig, ...] = ()
    certificates: tuple[CertificateConfig, ...] = ()

    @model_validator(mode="after")
    def _no_doubles(self) -> "IdentityConfig":
        for path, values in (
            ("jwt.name", [jwt.name for jwt in self.jwt]),
            ("jwt.issuer", [jwt.issuer for jwt in self.jwt]),
            ("certificates.san", [certificate.san for certificate in self.certificates]),
        ):
            for value in values:
                if values.count(value) > 1:
                    raise ValueError(f"{path}: {value} is there twice")
        return self
