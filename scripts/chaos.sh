#!/usr/bin/env bash
# Faults from a seed for so many seconds on real nodes, under load; the last line is one JSON object of counts. See docs/testing.md.
set -euo pipefail
cd "$(dirname "$0")/.."

export SLIPWAY_CHAOS_SEED=$1 SLIPWAY_CHAOS_SECONDS=$2 SLIPWAY_CHAOS_FAULTS=${3:-}
name=clients_see_one_register_each_under_faults
SLIPWAY_CHAOS_REPORT=$(mktemp)
SLIPWAY_SKIP_LOG=$(mktemp)
export SLIPWAY_CHAOS_REPORT SLIPWAY_SKIP_LOG
trap 'rm -f "$SLIPWAY_CHAOS_REPORT" "$SLIPWAY_SKIP_LOG"' EXIT
status=0
cargo test --locked --test cluster "chaos::$name" -- --exact --nocapture || status=$?
if [ -s "$SLIPWAY_SKIP_LOG" ]; then
    reason=$(cut -d: -f2- "$SLIPWAY_SKIP_LOG" | tr -d '"\\\n')
    echo "{\"skipped\":\"${reason# }\"}"
else
    cat "$SLIPWAY_CHAOS_REPORT"
fi
exit "$status"
