"""Takes the fences of `tests.chaos.fences` out, one at a time, and looks whether a test fails: `make chaos-mutations`.

`python -m tests.chaos.mutations [NAME ...]`: all is done in a copy of the tree. First the tests are run there as it is.
Then each mutation is applied and its tests are run again:

    killed    a test failed that passed before: something guards that fence
    survived  the tests passed: nothing does
    broken    nothing is proved: the tests fail without the mutation, the pattern matches no place or several, a plain
              request is not served any more, or pytest ended by an error of its own
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.fences import MUTATIONS, Mutation

_ROOT = Path(__file__).resolve().parents[2]
# Many times what the slowest of the tests takes when it passes.
_LIMIT_S = 150.0
# pytest's own words for 'tests ran and some failed'; anything else (nothing collected, usage) proves nothing.
_PASSED, _FAILED, _ENDLESS = 0, 1, -1
# A mutation takes one fence out. One that stops all service, by a slip in its text for instance, fails any test.
_PLAIN = "tests/chaos/test_plain.py"


def main() -> int:
    wanted = set(sys.argv[1:])
    unknown = wanted - {mutation.name for mutation in MUTATIONS}
    if unknown:
        sys.stderr.write(f"no such mutation: {', '.join(sorted(unknown))}\n")
        return 2
    chosen = [mutation for mutation in MUTATIONS if not wanted or mutation.name in wanted]
    with tempfile.TemporaryDirectory(prefix="bitlane-mutations-") as folder:
        tree = _copy(Path(folder) / "tree")
        passing = _passing(chosen, tree)
        if _PLAIN not in passing:
            return 2
        fates = {mutation.name: _fate(mutation, tree) if mutation.tests in passing else "broken" for mutation in chosen}
    for fate in ("survived", "broken"):
        names = [name for name, its in fates.items() if its == fate]
        sys.stdout.write(f"{len(names)} {fate}{': ' if names else ''}{', '.join(names)}\n")
    return 0 if set(fates.values()) <= {"killed"} else 1


def _copy(tree: Path) -> Path:
    """What git knows of the tree, with the same environment."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=_ROOT, check=True, capture_output=True).stdout
    for name in listed.decode().split("\0"):
        if name and (_ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_ROOT / name, tree / name)
    return tree


def _passing(chosen: Sequence[Mutation], tree: Path) -> set[str]:
    """Which of the tests pass in the tree as it is. Without that, no failure says anything."""
    passing: set[str] = set()
    for tests in dict.fromkeys([_PLAIN, *(mutation.tests for mutation in chosen)]):
        began = time.monotonic()
        status = _pytest(tests, tree, say=(_FAILED,))
        _say("passed" if status == _PASSED else "FAILED", began, tests)
        if status == _PASSED:
            passing.add(tests)
    return passing


def _fate(mutation: Mutation, tree: Path) -> str:
    began = time.monotonic()
    path = tree / mutation.file
    original = path.read_text(encoding="utf-8")
    mutated, matches = re.subn(mutation.pattern, lambda _: mutation.into, original)
    fate = "broken"
    if matches != 1:
        sys.stderr.write(f"{mutation.name}: {matches} places of {mutation.file} match; bring the pattern up to date\n")
    else:
        path.write_text(mutated, encoding="utf-8")
        if _pytest(_PLAIN, tree) == _PASSED:
            # Whoever waits for ever has noticed: unmutated, the tests end.
            fates = {_PASSED: "survived", _FAILED: "killed", _ENDLESS: "killed"}
            fate = fates.get(_pytest(mutation.tests, tree), "broken")
        path.write_text(original, encoding="utf-8")
    _say(fate, began, f"{mutation.name}  ({mutation.tests})")
    return fate


def _pytest(tests: str, tree: Path, say: Sequence[int] = ()) -> int:
    """Its exit status; _ENDLESS when it had to be ended. What it says is shown when it could not do its work, and for
    a status in `say`.
    """
    command = f"exec {sys.executable} -m pytest -x -q -p no:cacheprovider {tests}"
    env = {**os.environ, "BITLANE_CHAOS": "", "PYTHONDONTWRITEBYTECODE": "1"}
    # What hypothesis found with one mutation must not be tried with the next.
    shutil.rmtree(tree / ".hypothesis", ignore_errors=True)
    run = subprocess.Popen(
        command, shell=True, cwd=tree, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        said, _ = run.communicate(timeout=_LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        return _ENDLESS
    if run.returncode not in (_PASSED, _FAILED) or run.returncode in say:
        sys.stderr.write(said.decode(errors="replace")[-4000:])
    return run.returncode


def _say(what: str, began: float, of: str) -> None:
    sys.stdout.write(f"{what:9} {time.monotonic() - began:5.0f} s  {of}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
