"""Builds every image that the stack needs on a machine that reaches Debian's archive and PyPI, and nothing else."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = "bitlane-test/debian:bookworm"
TAG = "test"
OWN = {"router": "bitlane/router", "worker-reference": "bitlane/worker-reference"}
STAND_INS = ("redis", "prometheus", "proxy", "engine")
# Workers of GPU engines, on the stand-in for the images of the engines' makers.
GPU_WORKERS = {"worker-sglang": "SGLANG_IMAGE", "worker-vllm": "VLLM_IMAGE", "worker-trtllm": "TRTLLM_IMAGE"}
_BUILDKIT = {**os.environ, "DOCKER_BUILDKIT": "1"}
# Left out of the base: what no container reads.
_UNREAD = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt", "var/lib/apt/lists")


class NoDocker(Exception):
    """Images cannot be built or run here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Image:
    """One that was built."""

    name: str
    megabytes: float
    seconds: float


def docker() -> str:
    """The first docker client on the PATH that can build, or the one that $DOCKER names.

    Raises:
        NoDocker: there is none, or no daemon answers.
    """
    named = os.environ.get("DOCKER")
    candidates = [named] if named else _on_path("docker")
    if not candidates:
        raise NoDocker("there is no `docker` on the PATH (Debian: apt-get install docker.io)")
    found = next((each for each in candidates if _builds(each)), None)
    if found is None:
        raise NoDocker(f"{candidates[0]} cannot build: it lacks buildx (Debian: apt-get install docker-buildx)")
    asked = [found, "version", "--format", "{{.Server.Version}}"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise NoDocker(f"no docker daemon answers ({answer.stderr.strip()}): start dockerd")
    return found


def _on_path(name: str) -> list[str]:
    found = (shutil.which(name, path=folder) for folder in os.get_exec_path())
    return [each for each in found if each]


def _builds(client: str) -> bool:
    """Clients of before 23 bring BuildKit with them, later ones want a plugin. Asking needs no daemon."""
    command = [client, "build", "--help"]
    return subprocess.run(command, env=_BUILDKIT, capture_output=True, check=False).returncode == 0


def build_all(say: Callable[[str], None]) -> list[Image]:
    """The base if it is not there yet, then the stand-ins, then our own images.

    Raises:
        NoDocker: there is no docker, or no debootstrap.
        RuntimeError: a build failed; the end of its output is in the message.
    """
    client = docker()
    images = [] if _exists(client, BASE) else [_build_base(client, say)]
    with tempfile.TemporaryDirectory() as folder:
        secrets = _pip_secrets(Path(folder))
        for target in STAND_INS:
            options = ["-f", "tests/containers/Dockerfile", "--build-arg", f"BASE={BASE}"]
            images.append(_build(client, target, f"bitlane-test/{target}:{TAG}", [*options, *secrets], say))
        for target, name in OWN.items():
            options = ["--build-arg", f"PYTHON_IMAGE={BASE}", "--build-arg", f"REVISION={_revision()}"]
            images.append(_build(client, target, f"{name}:{TAG}", [*options, *secrets], say))
        for target, argument in GPU_WORKERS.items():
            options = ["--build-arg", f"PYTHON_IMAGE={BASE}", "--build-arg", f"{argument}=bitlane-test/engine:{TAG}"]
            _build(client, target, f"bitlane-test/{target}:{TAG}", [*options, *secrets], say)
    return images


def _build(client: str, target: str, name: str, options: list[str], say: Callable[[str], None]) -> Image:
    began = time.monotonic()
    command = [client, "build", "--network", "host", "--target", target, "-t", name, *options, "."]
    _run(command, env=_BUILDKIT)
    return _built(client, name, began, say)


def _build_base(client: str, say: Callable[[str], None]) -> Image:
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        raise NoDocker(f"the base image {BASE} is made by debootstrap, as root (Debian: apt-get install debootstrap)")
    began = time.monotonic()
    say(f"making {BASE} with debootstrap")
    with tempfile.TemporaryDirectory(prefix="bitlane-base-") as folder:
        _run(["debootstrap", "--variant=minbase", "--include=python3,python3-venv", "bookworm", folder])
        for unread in _UNREAD:
            shutil.rmtree(Path(folder) / unread, ignore_errors=True)
            (Path(folder) / unread).mkdir(parents=True)
        with subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run([client, "import", "-", BASE], stdin=tar.stdout, check=True, capture_output=True)
        if tar.returncode:
            raise subprocess.CalledProcessError(tar.returncode, "tar")
    return _built(client, BASE, began, say)


def _built(client: str, name: str, began: float, say: Callable[[str], None]) -> Image:
    size = subprocess.run(
        [client, "image", "inspect", "--format", "{{.Size}}", name], capture_output=True, text=True, check=True
    )
    image = Image(name, int(size.stdout) / 1e6, time.monotonic() - began)
    say(f"{image.name}: {image.megabytes:.0f} MB, built in {image.seconds:.0f} s")
    return image


def _exists(client: str, name: str) -> bool:
    return subprocess.run([client, "image", "inspect", name], capture_output=True, check=False).returncode == 0


def _pip_secrets(folder: Path) -> list[str]:
    """This machine's own way to PyPI, if it has one, for the build and not for the images."""
    configuration = ["[global]"]
    index = subprocess.run(["pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False)
    if index.returncode == 0:
        configuration.append(f"index-url = {index.stdout.strip()}")
    options: list[str] = []
    authorities = next((os.environ[name] for name in ("PIP_CERT", "SSL_CERT_FILE") if os.environ.get(name)), None)
    if authorities:
        configuration.append("cert = /run/ca.pem")
        options += ["--secret", f"id=ca_bundle,src={authorities}"]
    written = folder / "pip.conf"
    written.write_text("\n".join(configuration) + "\n", encoding="utf-8")
    return [*options, "--secret", f"id=pip_conf,src={written}"]


def _revision() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def _run(command: list[str], env: dict[str, str] | None = None) -> None:
    """Quiet unless it fails."""
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
