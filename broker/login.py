"""How a connection proves who it is: user, password, TLS. Files are looked at again for every new connection.

So a renewed certificate or a changed password needs no restart. Nothing here is ever printed.
"""

import ssl
from pathlib import Path

from broker.files import Stamp, stamp
from broker.options import BrokerOptions


class LoginFault(ValueError):
    """A file cannot be used, or settings do not go together; the message begins with the setting's name."""


class Login:
    """User, password and TLS of the options."""

    def __init__(self, options: BrokerOptions, username: str, password: str, *, tls: bool) -> None:
        """Reads all files once. Raises LoginFault."""
        self._options = options
        self._username = username
        self._password = password
        if password and options.password_file is not None:
            raise LoginFault("password_file: the URL has a password too; take it out there")
        if username and not password and options.password_file is None:
            raise LoginFault("password_file: the URL names a user and no password; name the file that holds it")
        files = {
            "tls_ca_file": options.tls_ca_file,
            "tls_certificate_file": options.tls_certificate_file,
            "tls_key_file": options.tls_key_file,
        }
        self._files = {name: path for name, path in files.items() if path is not None}
        if self._files and not tls:
            raise LoginFault(f"{next(iter(self._files))}: is of no use without TLS; write the URL as rediss://")
        if "tls_key_file" in self._files and "tls_certificate_file" not in self._files:
            raise LoginFault("tls_certificate_file: is needed together with tls_key_file")
        self.tls = tls
        self.shows_certificate = options.tls_certificate_file is not None
        self._seen: list[Stamp] = []
        self._context: ssl.SSLContext | None = None
        self.credentials()
        self.context()

    def credentials(self) -> tuple[str, ...]:
        """The arguments of AUTH; none when there is no password. Raises LoginFault."""
        password = self._password
        if self._options.password_file is not None:
            path = Path(self._options.password_file)
            try:
                password = path.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise LoginFault(f"password_file: {path} cannot be read: {error.strerror}") from error
            except UnicodeDecodeError:
                raise LoginFault(f"password_file: {path} is no text") from None
            if not password:
                raise LoginFault(f"password_file: {path} is empty")
        if not password:
            return ()
        return (self._username, password) if self._username else (password,)

    def context(self) -> ssl.SSLContext | None:
        """None for plaintext. Raises LoginFault."""
        if not self.tls:
            return None
        stamps = [stamp(path) for path in self._files.values()]
        if self._context is None or stamps != self._seen:
            self._context = self._make_context()
            self._seen = stamps  # from before the reading: a change in between is seen next time
        return self._context

    def _make_context(self) -> ssl.SSLContext:
        for name, path in self._files.items():
            try:
                Path(path).read_bytes()
            except OSError as error:
                raise LoginFault(f"{name}: {path} cannot be read: {error.strerror}") from error
        options = self._options
        try:
            context = ssl.create_default_context(cafile=options.tls_ca_file)
        except ssl.SSLError:
            raise LoginFault(f"tls_ca_file: {options.tls_ca_file} holds no certificate in PEM") from None
        if options.tls_certificate_file is not None:
            try:
                # A password, though there is none: without it an encrypted key would ask for one on the terminal.
                context.load_cert_chain(options.tls_certificate_file, options.tls_key_file, password="")
            except (ssl.SSLError, ValueError):
                files = " and ".join(filter(None, (options.tls_certificate_file, options.tls_key_file)))
                raise LoginFault(
                    f"tls_certificate_file: {files} do not hold a certificate and its key, without a password, in PEM"
                ) from None
        return context
