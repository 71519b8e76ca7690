#!/usr/bin/env bash
# Faults from a seed for so many seconds on real nodes, under load; the last line is one JSON object of counts. See docs/testing.md.
set -euo pipefail

export SLIPWAY_CHAOS_SEED=$1 SLIPWAY_CHAOS_SECONDS=$2 SLIPWAY_CHAOS_FAULTS=${3:-}
exec "$(dirname "$0")/judged.sh" chaos::clients_see_one_register_each_under_faults SLIPWAY_CHAOS_REPORT
