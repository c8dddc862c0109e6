#!/bin/sh
# What every image of the Dockerfile has: a user without rights, a home or a shell, and the folders that are made for it
# to write to. A named volume takes its owner from the folder that it is first mounted over.
set -eu
groupadd --gid 65532 bitlane
useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin bitlane
install -d -o 65532 -g 65532 /var/cache/bitlane
for folder in redis data router worker setup grafana; do
  install -d -o 65532 -g 65532 -m 0750 "/run/bitlane/$folder"
done
