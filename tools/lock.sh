#!/usr/bin/env bash
# Resolves the dependency groups of pyproject.toml into hashed locks that name no package index.
# `dev` is the superset; the others are constrained by it, so that one virtual environment can hold them in turn.
set -euo pipefail
cd "$(dirname "$0")/.."
export UV_CUSTOM_COMPILE_COMMAND="make lock"
compile() {
  uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate "$@"
}
compile --group dev -o requirements/dev.txt
for group in local router worker engines; do
  compile --group "$group" -c requirements/dev.txt -o "requirements/$group.txt"
done
# The image of the reference engine.
compile --group worker --group reference -c requirements/dev.txt -o requirements/reference.txt
compile --group proxy -o requirements/proxy.txt
compile --group deployment -c requirements/dev.txt -o requirements/deployment.txt
compile --group proto -o requirements/proto.txt
compile --group train -c requirements/dev.txt -o requirements/train.txt
compile --no-deps requirements/model.in -o requirements/model.txt
compile --no-deps requirements/train-model.in -o requirements/train-model.txt
compile --no-deps requirements/fuzz.in -o requirements/fuzz.txt
compile requirements/profile.in -o requirements/profile.txt
# Each peer of `make bench-peers` has an environment to itself: their needs contradict ours and each other's.
for peer in litellm smg sglang-router; do
  compile "requirements/peer-$peer.in" -o "requirements/peer-$peer.txt"
done
