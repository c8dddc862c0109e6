"""House rules that no other tool checks: who imports whom, how large files are, that no lock names an index.

Run by `make check`; prints each fault with its file, and exits 1 when there is one.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_MAX_BYTES = 64 << 10
_DATA = (".json", ".jsonl", ".txt", ".npz", ".gguf", ".svg", ".png")

# What a package may import of the project's own; tests, bench and deploy may import all.
_MAY_IMPORT: dict[str, frozenset[str]] = {
    "bitlane": frozenset(),
    "precision": frozenset(),
    "telemetry": frozenset(),
    "classifier": frozenset({"precision"}),
    "broker": frozenset({"precision", "telemetry"}),
    # Of bitlane only the generated messages.
    "router": frozenset({"precision", "telemetry", "classifier", "broker", "bitlane"}),
    "workers": frozenset({"precision", "telemetry", "broker", "bitlane"}),
    # Of workers the reference engine: it reads and computes what is packed.
    "checkpoints": frozenset({"precision", "workers"}),
}
_OWN = frozenset(_MAY_IMPORT) | {"tests", "bench", "deploy", "tools"}
_MESSAGES = ("bitlane.v1", "bitlane.internal.v1", "bitlane.rpc.v1")
# What a package may import of others' where that is a promise.
_ONLY: dict[str, frozenset[str]] = {"bitlane": frozenset({"grpc", "google"})}
# Where one module may use what its package may not: loaded only if the application has loaded it.
_EXCEPT: dict[str, frozenset[str]] = {"bitlane/tracing.py": frozenset({"opentelemetry"})}
# What an extra installs, and the one file that may import it: whoever loads that file knows what to say without it.
_EXTRAS: dict[str, str] = {"bitlane/cli/top_view.py": "rich"}
_NEVER: dict[str, frozenset[str]] = {
    "router": frozenset({"torch", "vllm", "sglang", "tensorrt_llm", "workers"}),
    "broker": frozenset({"google", "grpc", "numpy"}),
}


def main() -> int:
    faults = tree_faults()
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"tree: {len(faults)} faults")
    return 1 if faults else 0


def tree_faults() -> list[str]:
    """All that is wrong with the files that git tracks, or would."""
    files = _tracked()
    return [*_sizes(files), *_addresses(files), *_imports(files)]


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=_ROOT,
        check=True,
        capture_output=True,
    )
    paths = [Path(name) for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if (_ROOT / path).is_file()]


def _sizes(files: list[Path]) -> Iterator[str]:
    for path in files:
        size = (_ROOT / path).stat().st_size
        if size > _MAX_BYTES and path.suffix not in _DATA and not _generated(path):
            yield f"{path}: {size} bytes; a file that is neither data nor generated has at most {_MAX_BYTES}"


def _addresses(files: list[Path]) -> Iterator[str]:
    """A lock says what to install; where from is each machine's own setting."""
    for path in files:
        if path.parts[0] != "requirements":
            continue
        for number, line in enumerate((_ROOT / path).read_text(encoding="utf-8").splitlines(), start=1):
            if "://" in line or line.lstrip().startswith(("--index", "--extra-index", "--find-links", "-i ", "-f ")):
                yield f"{path}:{number}: names where packages come from; leave the address out"


def _imports(files: list[Path]) -> Iterator[str]:
    for path in files:
        package = path.parts[0]
        if path.suffix != ".py" or package not in _MAY_IMPORT or _generated(path):
            continue
        for line, module in _imported(path):
            if module.partition(".")[0] == _EXTRAS.get(path.as_posix()):
                continue
            fault = import_fault(package, module)
            if fault and module.partition(".")[0] not in _EXCEPT.get(path.as_posix(), frozenset()):
                yield f"{path}:{line}: {package} {fault}"


def import_fault(package: str, module: str) -> str | None:
    """What is wrong with a package importing a module (or a name of one); None when nothing is."""
    top = module.partition(".")[0]
    if top == package or top in sys.stdlib_module_names:
        return None
    if top in _NEVER.get(package, frozenset()):
        return f"never imports {top}"
    if top in _OWN:
        if top not in _MAY_IMPORT[package]:
            return f"may not import {top}"
        if top == "bitlane" and not module.startswith(_MESSAGES):
            return f"imports the SDK's {module}; only the generated messages are shared"
        return None
    if package in _ONLY and top not in _ONLY[package]:
        return f"imports {top}; it depends on {', '.join(sorted(_ONLY[package]))} only"
    return None


def _imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every import, those inside of functions too."""
    for node in ast.walk(ast.parse((_ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _generated(path: Path) -> bool:
    return "_pb2" in path.name


if __name__ == "__main__":
    sys.exit(main())
