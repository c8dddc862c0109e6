"""The fences, and what must fail when one is taken out: `make chaos-mutations`.

`python -m tests.chaos.mutations [NAME ...]`: each mutation is applied to a copy of the tree and its tests are run
there. One that survives means that nothing guards that fence.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_LIMIT_S = 240
# pytest's own words for 'tests ran and some failed'; anything else (nothing collected, usage) proves nothing.
_FAILED = 1

WORKERS = "tests/chaos/test_workers.py"
LIFECYCLE = "tests/contract/broker/test_transitions.py"


@dataclass(frozen=True, slots=True)
class Mutation:
    """A fence taken out: in `file`, the one match of `pattern` becomes `into`; then `tests` must fail."""

    name: str
    file: str
    pattern: str  # a regular expression, lenient about spaces, so that it survives a reformatting
    into: str
    tests: str  # arguments of pytest


MUTATIONS = (
    Mutation(
        "no epoch check",
        "broker/lua/lib/hold.lua",
        r"if record\.epoch ~= epoch or record\.state ~= 'running' then",
        "if record.state ~= 'running' then",
        "tests/chaos/test_fences.py -k held",
    ),
    Mutation(
        "no index check in the log",
        "broker/lua/lib/token_log.lua",
        r"if index > length then return HOLE, length end\n  if index < length then",
        "if false then",
        LIFECYCLE,
    ),
    Mutation(
        "a repeated chunk is logged again",
        "broker/lua/lib/token_log.lua",
        r"if index < length then",
        "if false then",
        LIFECYCLE,
    ),
    Mutation(
        "no lease",
        "broker/lua/claim.lua",
        r"redis\.call\('ZADD', key\('lease', pool\),[^\n]*\n",
        "\n",
        LIFECYCLE,
    ),
    Mutation(
        "leases are never extended",
        "broker/lua/lib/hold.lua",
        r"redis\.call\('ZADD', key\('lease', record\.pool\), 'XX',[^\n]*\n",
        "\n",
        "tests/chaos/test_routers.py",
    ),
    Mutation(
        "leases never run out",
        "broker/lua/reclaim.lua",
        r"'-inf', string\.format\('%d', now\)",
        "'-inf', '0'",
        LIFECYCLE,
    ),
    Mutation(
        "reservations are not settled",
        "broker/lua/lib/conclude.lua",
        r"\n +settle\(record, [^\n]*\n",
        "\n",
        "tests/chaos/test_cancel.py -k queue",
    ),
    Mutation(
        "the digest is not compared",
        "broker/lua/submit.lua",
        r"digest == ARGV\[4\] and 'joined' or 'conflict'",
        "'joined'",
        "tests/chaos/test_idempotency.py -k many_times",
    ),
    Mutation(
        "an id can be submitted again",
        "broker/lua/submit.lua",
        r"if digest then",
        "if false then",
        "tests/chaos/test_idempotency.py -k many_times",
    ),
    Mutation(
        "no deadline at claim",
        "broker/lua/claim.lua",
        r"record\.deadline_ms > 0 and now >= record\.deadline_ms then",
        "false then",
        LIFECYCLE,
    ),
    Mutation(
        "no deadline at writes",
        "broker/lua/lib/hold.lua",
        r"record\.deadline_ms > 0 and now >= record\.deadline_ms then",
        "false then",
        LIFECYCLE,
    ),
    Mutation(
        "workers do not stop at the deadline",
        "workers/worker.py",
        r"asyncio\.timeout\(None if remaining_ms is None else remaining_ms / 1000\)",
        "asyncio.timeout(None)",
        "tests/chaos/test_deadlines.py -k stays",
    ),
    Mutation(
        "what is guided is spliced",
        "broker/lua/lib/give_back.lua",
        r"record\.migratable == 0 and log_length\(record\) > 0",
        "false",
        f"{WORKERS} -k not_spliced",
    ),
    Mutation(
        "attempts are not counted",
        "broker/lua/lib/give_back.lua",
        r"if not failed then record\.attempts",
        "if true then record.attempts",
        LIFECYCLE,
    ),
    Mutation(
        "workers are not told of endings",
        "broker/lua/lib/notify.lua",
        r"redis\.call\('RPUSH', control,[^\n]*\n",
        "\n",
        "tests/chaos/test_cancel.py -k 'at_once and prefill'",
    ),
    Mutation(
        "prompts stay",
        "broker/lua/lib/conclude.lua",
        r"redis\.call\('HDEL', request, 'job'\)",
        "local _ = nil",
        "tests/chaos/test_cancel.py -k queue",
    ),
    Mutation(
        "who leaves is not noticed",
        "router/service.py",
        r"await asyncio\.sleep\(grace_s\)",
        "await asyncio.sleep(3600)",
        "tests/chaos/test_cancel.py -k 'killed and decode'",
    ),
    Mutation(
        "a stale reader does not read the log",
        "router/relay.py",
        r"if self\._stale or \(behind and not self\._chunks\):",
        "if False:",
        "tests/contract/router/test_relay.py -k 'lost or slow'",
    ),
    Mutation(
        "a stale reader does not follow again",
        "router/relay.py",
        r"follower = self\._router if self\._stale else \"\"",
        'follower = ""',
        "tests/chaos/test_fences.py -k follows_again",
    ),
    Mutation(
        "the relay takes chunks as they come",
        "router/relay.py",
        r"if event\.index == self\.next_index \+ len\(self\._chunks\) and fits:",
        "if fits:",
        "tests/chaos/test_fences.py -k repeats",
    ),
    Mutation(
        "the SDK takes deltas as they come",
        "bitlane/exchange.py",
        r"if event\.next_index <= self\.next_index and event\.next_index > event\.index:\n +return None\n"
        r" +if event\.index != self\.next_index or event\.next_index < event\.index:",
        "if False:",
        "tests/contract/sdk/test_resume.py tests/contract/sdk/test_ending.py",
    ),
    Mutation(
        "the SDK does not resume",
        "bitlane/exchange.py",
        r"if delay is None or delay >= min\(window_left, deadline\.remaining\(\)\):",
        "if True:",
        "tests/chaos/test_routers.py",
    ),
    Mutation(
        "the retry budget is bottomless",
        "bitlane/retry.py",
        r"self\._tokens = max\(0\.0, self\._tokens - 1\)",
        "pass",
        "tests/chaos/test_overload.py -k 'retries and server'",
    ),
    Mutation(
        "calls are made with no connection",
        "bitlane/channel.py",
        r"if self\._take_connected\(impatient\) or not self\._may_come\(window\):",
        "if True:",
        "tests/contract/sdk/test_reach.py -k wait_for_the_only",
    ),
    Mutation(
        "draining workers hand nothing back",
        "workers/worker.py",
        r"await asyncio\.gather\(\*\(serving\.run\.release\(failed=failed\)[^\n]*\n",
        "\n",
        "tests/chaos/test_drain.py -k rolling",
    ),
    Mutation(
        "health does not flip",
        "router/server.py",
        r"await _set_health\(healthiness, health_pb2\.HealthCheckResponse\.NOT_SERVING\)",
        "pass",
        "tests/chaos/test_drain.py -k health",
    ),
    Mutation(
        "gaps in the inbox are not seen",
        "broker/inbox.py",
        r"if first != self\._position \+ 1 or last - first != len\(entries\) - 1:",
        "if False:",
        "tests/contract/broker/test_inbox.py",
    ),
    Mutation(
        "an unsure write is not repeated",
        "workers/run.py",
        r"except BrokerUnavailable:\n +await asyncio\.sleep\(delay \* random\.uniform\(0\.5, 1\.5\)\)",
        "except BrokerUnavailable:\n                return Held.YES\n                await asyncio.sleep(delay)",
        "tests/chaos/test_store.py -k hang",
    ),
)


def main() -> int:
    wanted = set(sys.argv[1:])
    unknown = wanted - {mutation.name for mutation in MUTATIONS}
    if unknown:
        sys.stderr.write(f"no such mutation: {', '.join(sorted(unknown))}\n")
        return 2
    survived: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bitlane-mutations-") as folder:
        tree = _copy(Path(folder) / "tree")
        for mutation in MUTATIONS:
            if wanted and mutation.name not in wanted:
                continue
            began = time.monotonic()
            fate = _try(mutation, tree)
            sys.stdout.write(f"{fate:9} {time.monotonic() - began:5.0f} s  {mutation.name}  ({mutation.tests})\n")
            sys.stdout.flush()
            if fate != "killed":
                survived.append(mutation.name)
    sys.stdout.write(f"{len(survived)} survived{': ' + ', '.join(survived) if survived else ''}\n")
    return 1 if survived else 0


def _copy(tree: Path) -> Path:
    """What git knows of the tree, with the same environment."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=_ROOT, check=True, capture_output=True).stdout
    for name in listed.decode().split("\0"):
        if name and (_ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_ROOT / name, tree / name)
    return tree


def _try(mutation: Mutation, tree: Path) -> str:
    """`killed` when the tests fail with the mutation, `survived` when they pass, `broken` when it tells nothing."""
    path = tree / mutation.file
    original = path.read_text(encoding="utf-8")
    mutated, matches = re.subn(mutation.pattern, lambda _: mutation.into, original)
    if matches != 1:
        sys.stderr.write(f"{mutation.name}: {matches} places of {mutation.file} match; bring the pattern up to date\n")
        return "broken"
    path.write_text(mutated, encoding="utf-8")
    try:
        return _verdict(mutation, tree)
    finally:
        path.write_text(original, encoding="utf-8")


def _verdict(mutation: Mutation, tree: Path) -> str:
    command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider --timeout 60 {mutation.tests}"
    # What hypothesis found with one mutation must not be tried with the next.
    env = {**os.environ, "BITLANE_CHAOS": "", "PYTHONDONTWRITEBYTECODE": "1"}
    shutil.rmtree(tree / ".hypothesis", ignore_errors=True)
    try:
        run = subprocess.run(command, shell=True, cwd=tree, env=env, timeout=_LIMIT_S, capture_output=True, check=False)
    except subprocess.TimeoutExpired:
        return "killed"  # whoever waits for ever has noticed
    if run.returncode == _FAILED:
        return "killed"
    if run.returncode == 0:
        return "survived"
    sys.stderr.write(run.stdout.decode(errors="replace")[-2000:])
    return "broken"


if __name__ == "__main__":
    sys.exit(main())
