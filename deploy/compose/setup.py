"""`python -m deploy.compose.setup`: makes the tenants of the stack through the admin API, and says how to call it.

Runs at every start. What exists is left as it is, so that changes of an operator stay.
"""

import hashlib
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import bitlane
from deploy.compose.init import TENANTS

_FOLDER = Path("/run/secrets")
_WAIT_S = 60.0
_FOLLOW_S = 15.0
# Their share of the workers, and what they ask of precision: as in config/local.yaml.
_WEIGHTS = {"acme": 1.0, "globex": 2.0}
_POLICIES = {
    "acme": "allow_uncalibrated_fp4: true\nlong_context_tokens: 1024\n",
    "globex": "long_context_tokens: 1024\nclient: {pins: [FP8]}\n",
}


def main() -> int:
    target = os.environ.get("BITLANE_TARGET", "proxy:50051")
    operator = (_FOLDER / "operator-key").read_text(encoding="utf-8")
    keys = {tenant: (_FOLDER / f"key-{tenant}").read_text(encoding="utf-8") for tenant in TENANTS}
    try:
        with bitlane.Client(target, api_key=operator, insecure=True, timeout=_WAIT_S) as client:
            for tenant, key in keys.items():
                _until_followed(partial(make_tenant, client, tenant, key))
    except bitlane.BitlaneError as error:
        print(f"deploy.compose.setup: {error}", file=sys.stderr)
        return 1
    port = os.environ.get("BITLANE_PORT", "50051")
    print(
        f"""
bitlane is up: gRPC on localhost:{port}. In a shell (`pip install .` brings the command):

  export BITLANE_TARGET=localhost:{port} BITLANE_API_KEY={keys["acme"]}
  bitlane chat

A second tenant, globex, has the key {keys["globex"]}
"""
    )
    return 0


def _until_followed(step: Callable[[], None]) -> None:
    """The next call may reach another router, which knows of a new tenant a moment later."""
    deadline = time.monotonic() + _FOLLOW_S
    while True:
        try:
            return step()
        except bitlane.NotFound:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def make_tenant(client: bitlane.Client, tenant: str, key: str) -> None:
    """A tenant with its policy and a key, whose secret is already made. Each step is left out once it is done."""
    with suppress(bitlane.AlreadyExists):
        client.admin.tenants.create(bitlane.Tenant(tenant, weight=_WEIGHTS[tenant]))
    acting = client.policies.get(tenant=tenant)
    if acting.version == 0:
        client.policies.put(_POLICIES[tenant], etag=acting.etag, tenant=tenant)
    if not any(found.name == "local" for found in client.admin.keys.list(tenant=tenant)):
        digest = hashlib.sha256(key.encode()).hexdigest()
        client.admin.keys.create("local", tenant=tenant, secret_sha256=digest)


if __name__ == "__main__":
    sys.exit(main())
