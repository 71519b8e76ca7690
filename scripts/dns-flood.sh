#!/usr/bin/env bash
# Floods of a real node's DNS, so many seconds each; the last line is one JSON object of figures. See docs/testing.md.
set -euo pipefail

export SLIPWAY_DNS_FLOOD=$1 SLIPWAY_DNS_FLOOD_RATE=$2
exec "$(dirname "$0")/judged.sh" floods::floods_leave_memory_flat_and_a_calm_client_its_answers SLIPWAY_DNS_FLOOD_REPORT
