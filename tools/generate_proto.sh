#!/usr/bin/env bash
# Generates bitlane/**/*_pb2*.py(i) from proto/. With --check: into a temporary folder, and fails on a difference.
set -euo pipefail
cd "$(dirname "$0")/.."

out=.
if [[ "${1:-}" == --check ]]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi

mapfile -t protos < <(find proto -name '*.proto' | sort)
services=(proto/bitlane/v1/inference.proto proto/bitlane/v1/policy.proto proto/bitlane/v1/admin.proto)
python -m grpc_tools.protoc -Iproto --python_out="$out" --mypy_out="readable_stubs:$out" "${protos[@]}"
python -m grpc_tools.protoc -Iproto --grpc_python_out="$out" --mypy_grpc_out="$out" "${services[@]}"

if [[ "$out" != . ]]; then
  status=0
  while read -r file; do
    if ! diff -u "$file" "$out/$file" >/dev/null 2>&1; then
      echo "generated code is out of date: $file (run: make proto)" >&2
      status=1
    fi
  done < <( (cd "$out" && find bitlane -type f; cd "$OLDPWD" && find bitlane -name '*_pb2*') | sort -u)
  exit $status
fi
