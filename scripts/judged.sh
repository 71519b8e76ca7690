#!/usr/bin/env bash
# Runs one long test of real nodes, `judged.sh TEST VARIABLE`, and prints as last line the JSON object that the test writes to the file named
# in VARIABLE; or why the machine cannot run it. For chaos.sh and switch-history.sh, which pass on what the test is to do.
set -euo pipefail
cd "$(dirname "$0")/.."

report=$(mktemp)
SLIPWAY_SKIP_LOG=$(mktemp)
export SLIPWAY_SKIP_LOG "$2=$report"
trap 'rm -f "$report" "$SLIPWAY_SKIP_LOG"' EXIT
status=0
cargo test --locked --test cluster "$1" -- --exact --nocapture || status=$?
if [ -s "$SLIPWAY_SKIP_LOG" ]; then
    reason=$(cut -d: -f2- "$SLIPWAY_SKIP_LOG" | tr -d '"\\\n')
    echo "{\"skipped\":\"${reason# }\"}"
else
    cat "$report"
fi
exit "$status"
