#!/usr/bin/env bash
# Checks and tests the rules, alerts and configuration for Prometheus (deploy/prometheus) with promtool. With --install,
# gets promtool first where it is missing, from Debian's package `prometheus`, without starting a server.
set -euo pipefail
cd "$(dirname "$0")/../deploy/prometheus"
if ! command -v promtool > /dev/null; then
  if [ "${1:-}" != "--install" ]; then
    echo "check_alerts: promtool is missing: run tools/check_alerts.sh --install, or install Debian's package prometheus" >&2
    exit 3
  fi
  # The package starts a server when it is installed, unless this file says no.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
  fi
  apt-get install -qq --no-install-recommends prometheus > /dev/null || {
    apt-get update -qq && apt-get install -qq --no-install-recommends prometheus > /dev/null
  }
fi
promtool check config prometheus.yml
promtool test rules tests/*.yml
