#!/usr/bin/env bash
# So many switches on real nodes under faults, every node asked 200 times a second; the last line is one JSON object. See docs/testing.md.
set -euo pipefail
cd "$(dirname "$0")/.."

export SLIPWAY_SWITCHES=$1 SLIPWAY_SWITCH_SEED=$2
name=no_old_answer_follows_a_fenced_switch
SLIPWAY_SWITCH_REPORT=$(mktemp)
SLIPWAY_SKIP_LOG=$(mktemp)
export SLIPWAY_SWITCH_REPORT SLIPWAY_SKIP_LOG
trap 'rm -f "$SLIPWAY_SWITCH_REPORT" "$SLIPWAY_SKIP_LOG"' EXIT
status=0
cargo test --locked --test cluster "switches::$name" -- --exact --nocapture || status=$?
if [ -s "$SLIPWAY_SKIP_LOG" ]; then
    reason=$(cut -d: -f2- "$SLIPWAY_SKIP_LOG" | tr -d '"\\\n')
    echo "{\"skipped\":\"${reason# }\"}"
else
    cat "$SLIPWAY_SWITCH_REPORT"
fi
exit "$status"
