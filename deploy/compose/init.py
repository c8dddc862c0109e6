"""`python -m deploy.compose.init`: makes what the containers share before any of them starts.

Every role has a folder, a volume that nobody else mounts: its password at the broker, the operator's key, the tenants'
keys. What is there stays; what follows from it (the broker's users, the router's configuration) is written anew each
time. So it may run, or be cut off, any number of times.
"""

import hashlib
import os
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_FOLDER = Path("/run/bitlane")
_USERS = _ROOT / "deploy" / "redis" / "users.acl.example"
ROLES = ("router", "worker")
TENANTS = ("acme", "globex")


def main() -> int:
    models = _ROOT / "deploy" / "compose" / f"models.{os.environ.get('BITLANE_MODELS', 'cpu')}.yaml"
    if not models.is_file():
        print(f"deploy.compose.init: BITLANE_MODELS: there is no {models.name}", file=sys.stderr)
        return 2
    prepare(_FOLDER, models.read_text(encoding="utf-8"), _USERS.read_text(encoding="utf-8"))
    return 0


def prepare(folder: Path, models: str, users: str) -> None:
    """Fills the roles' folders, which exist."""
    passwords = {role: _secret(folder / role / "broker-password") for role in ROLES}
    operator = _secret(folder / "setup" / "operator-key", "bl_")
    for tenant in TENANTS:
        _secret(folder / "setup" / f"key-{tenant}", "bl_")
    _secret(folder / "grafana" / "admin-password", mode=0o444)
    _write(folder / "redis" / "users.acl", "\n".join(broker_users(users.splitlines(), passwords)) + "\n")
    _write(folder / "router" / "config.yaml", f"{models.rstrip()}\n\n{_operators(operator)}")


def broker_users(users: Iterable[str], passwords: dict[str, str]) -> Iterable[str]:
    """The broker's users with the hashes of their passwords, and one that may do nothing but show that it is there."""
    for line in users:
        words = line.split()
        if words[:1] == ["user"] and words[1] in passwords:
            words.insert(2, f"#{_sha256(passwords[words[1]])}")
            yield " ".join(words)
    # Nobody can log in as this one, so it may do all. It has to: servers of before 2026 (Redis 7, Valkey 8) replay the
    # scripts of their append-only file as this user, and silently leave out what it may not do: everything.
    yield "user default off resetpass ~* &* +@all"
    yield "user health on nopass resetkeys resetchannels -@all +ping"


def _operators(key: str) -> str:
    return f"operators:\n  - name: setup\n    sha256: {_sha256(key)}\n"


def _secret(path: Path, prefix: str = "", mode: int = 0o400) -> str:
    if not path.exists():
        _write(path, prefix + secrets.token_urlsafe(32), mode)
    return path.read_text(encoding="utf-8")


def _write(path: Path, text: str, mode: int = 0o400) -> None:
    """A reader sees the old text or the new one, whole."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(text, encoding="utf-8")
    part.chmod(mode)
    part.replace(path)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
