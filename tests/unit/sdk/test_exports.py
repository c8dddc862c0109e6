"""The public names: exactly those that are meant."""

import subprocess
import sys
from importlib.metadata import version

import bitlane
import bitlane.admin_types
import bitlane.errors
import bitlane.types
import bitlane.usage

CLIENTS = {"AsyncClient", "AsyncStream", "Client", "Options", "RetryPolicy", "Stream", "Tls", "__version__"}


def test_all_is_exactly_the_clients_the_types_and_the_errors():
    types = {*bitlane.types.__all__, *bitlane.admin_types.__all__, *bitlane.usage.__all__}
    assert set(bitlane.__all__) == CLIENTS | types | set(bitlane.errors.__all__)
    assert len(bitlane.__all__) == len(set(bitlane.__all__))


def test_every_name_is_there():
    for name in bitlane.__all__:
        assert getattr(bitlane, name) is not None
    assert dir(bitlane) == sorted(bitlane.__all__)


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(bitlane, "Cleint")


def test_the_version_is_the_package_s():
    assert bitlane.__version__ == version("bitlane")


def test_help_does_not_load_grpc():
    code = (
        "import sys, bitlane, bitlane.cli.parser\n"
        "bitlane.cli.parser.build(['admin']).format_help()\n"
        "sys.exit('grpc' in sys.modules or 'google.protobuf' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_who_does_not_administer_loads_nothing_of_it():
    code = (
        "import sys, bitlane.cli.parser, bitlane.sync, bitlane.cli.commands\n"
        "bitlane.cli.parser.build(['generate'])\n"
        "sys.exit(any('admin' in name or name == 'bitlane.money' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
