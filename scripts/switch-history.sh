#!/usr/bin/env bash
# So many switches on real nodes under faults, every node asked 200 times a second; the last line is one JSON object. See docs/testing.md.
set -euo pipefail

export SLIPWAY_SWITCHES=$1 SLIPWAY_SWITCH_SEED=$2
exec "$(dirname "$0")/judged.sh" switches::no_old_answer_follows_a_fenced_switch SLIPWAY_SWITCH_REPORT
