"""The server's certificate, read from files and read again when they change: a renewal needs no restart."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from broker.files import Stamp, stamp

_log = structlog.get_logger("bitlane.router")


class TlsFault(ValueError):
    """The files cannot be used; the message names the setting, the file and the reason."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where certificate, key and the authority of the clients are. PEM."""

    certificate: Path  # followed by the certificates between it and its authority
    key: Path
    client_ca: Path | None = None  # None: clients are not asked for certificates

    def read(self) -> "ServerCertificate":
        """Reads and checks the files.

        Raises:
            TlsFault: one cannot be read, holds something else, has expired, or the key is another certificate's.
        """
        chain, key = _bytes("tls_certificate_file", self.certificate), _bytes("tls_key_file", self.key)
        leaf = _certificates("tls_certificate_file", self.certificate, chain)[0]
        if leaf.not_valid_after_utc <= datetime.now(UTC):
            raise _fault("tls_certificate_file", self.certificate, f"expired on {leaf.not_valid_after_utc:%Y-%m-%d}")
        if leaf.public_key() != _public_key(self.key, key):
            raise _fault("tls_key_file", self.key, f"is not the key of the certificate in {self.certificate}")
        client_ca = None
        if self.client_ca is not None:
            client_ca = _bytes("tls_client_ca_file", self.client_ca)
            _certificates("tls_client_ca_file", self.client_ca, client_ca)
        configuration = grpc.ssl_server_certificate_configuration([(key, chain)], client_ca)
        return ServerCertificate(configuration, leaf.not_valid_after_utc)

    def stamps(self) -> list[Stamp]:
        """Changes whenever a file does. Three calls of stat."""
        return [stamp(path) for path in (self.certificate, self.key, self.client_ca) if path is not None]


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """What gRPC takes, and until when clients accept it."""

    configuration: grpc.ServerCertificateConfiguration
    expires: datetime


class Reloader:
    """Answers gRPC's question before each handshake: is there a newer certificate?

    Files that cannot be used, half-written ones for instance, change nothing: the last good certificate stays, one
    error is logged for each state of the files, and the next change is tried again. gRPC asks in threads of its own,
    one at a time.
    """

    def __init__(self, files: TlsFiles) -> None:
        """Raises TlsFault."""
        self._files = files
        self._seen = files.stamps()  # before reading: a change in between is seen as one
        self.first = files.read()
        _log.info("tls.loaded", expires=self.first.expires.isoformat())

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        """The new configuration; None while there is none."""
        stamps = self._files.stamps()
        if stamps == self._seen:
            return None
        self._seen = stamps
        try:
            certificate = self._files.read()
        except TlsFault as fault:
            _log.error("tls.bad", error=str(fault), hint="the last good certificate stays")
            return None
        _log.info("tls.loaded", expires=certificate.expires.isoformat())
        return certificate.configuration


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials of a server that follows its files. Clients need a certificate if there is an authority for them.

    Raises:
        TlsFault: the files cannot be used.
    """
    reloader = Reloader(files)
    return grpc.dynamic_ssl_server_credentials(
        reloader.first.configuration,
        reloader,  # pyright: ignore[reportArgumentType]  # the stub does not know that None means no change
        require_client_authentication=files.client_ca is not None,
    )


def _fault(setting: str, path: Path, reason: str) -> TlsFault:
    return TlsFault(f"{setting}: {path} {reason}")


def _bytes(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _fault(setting, path, f"cannot be read: {error.strerror}") from error


def _certificates(setting: str, path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise _fault(setting, path, "holds no certificate in PEM") from error


def _public_key(path: Path, pem: bytes) -> object:
    try:
        return load_pem_private_key(pem, password=None).public_key()
    except TypeError as error:  # it wants a password
        raise _fault("tls_key_file", path, "is encrypted: use a key without a password") from error
    except Exception as error:  # cryptography raises several kinds for keys that it cannot read
        raise _fault("tls_key_file", path, "holds no private key in PEM") from error
