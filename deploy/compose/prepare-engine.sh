#!/bin/sh
# Adds a worker's packages to the image of a GPU engine, behind all that it has: prepare-engine.sh LOCK
set -eu
packages=/opt/bitlane/packages
python3 -m pip install --no-cache-dir --require-hashes --target "$packages" -r "$1"
site=$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$packages" > "$site/bitlane.pth"
