"""TLS between a real client and a real server, with certificates made for the test."""

import shutil
import subprocess
from pathlib import Path

import pytest

from bitlane import AsyncClient, ConnectionFailed, RetryPolicy, Tls
from bitlane.testing import FakeServer

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


def make_pair(folder: Path, host: str) -> tuple[bytes, bytes]:
    """A private key and a certificate that signs itself."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    options = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    name = ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", *options, *name, *files], check=True, capture_output=True)
    return key.read_bytes(), certificate.read_bytes()


async def test_tls_with_an_authority_of_one_s_own(tmp_path: Path):
    key, certificate = make_pair(tmp_path, "bitlane.test")
    trust = Tls(root_certificates=certificate, server_name="bitlane.test")
    async with (
        FakeServer(tls=(key, certificate), api_key="bl_k") as server,
        AsyncClient(server.target, tls=trust, api_key="bl_k") as client,
    ):
        assert (await client.generate("Hi", model="fake")).text == "Hello, world!"


@pytest.mark.parametrize(
    "wrong", ["another authority", "another name", "no TLS"], ids=lambda wrong: wrong.replace(" ", "-")
)
async def test_what_cannot_be_trusted_is_not_talked_to(tmp_path: Path, wrong: str):
    key, certificate = make_pair(tmp_path, "bitlane.test")
    (tmp_path / "other").mkdir()
    _, other = make_pair(tmp_path / "other", "bitlane.test")
    trust = {
        "another authority": Tls(root_certificates=other, server_name="bitlane.test"),
        "another name": Tls(root_certificates=certificate, server_name="elsewhere.test"),
        "no TLS": False,
    }[wrong]
    async with (
        FakeServer(tls=(key, certificate)) as server,
        AsyncClient(server.target, tls=trust, api_key="bl_k", retry=RetryPolicy.none()) as client,
    ):
        with pytest.raises(ConnectionFailed):
            await client.list_models()
        assert server.calls == []
