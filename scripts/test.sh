#!/usr/bin/env bash
# Runs all tests (cargo-nextest when it is there, else cargo test), and fails on a skip that tests/allowed-skips does not name.
# Before the last line one block says what this run did not show, and what stands in for it. The last line is `test result: ...`
# with the totals. Called by `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export SLIPWAY_SKIP_LOG=$work/skips
: >"$SLIPWAY_SKIP_LOG"
# A run of all tests never rewrites what it compares with, whatever the caller's shell has exported.
unset GOLDEN SLIPWAY_GOLDEN
log=$work/log

status=0
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked --no-fail-fast --color never "$@" 2>&1 | tee "$log" || status=$?
    # "Summary [ 1.2s] 10 tests run: 9 passed (1 slow), 1 failed, 1 timed out, 0 skipped"
    summary=$(grep -E '^ *Summary \[' "$log" | tail -n1 || true)
    count() { { grep -oE "[0-9]+ $1" <<<"$summary" || true; } | awk '{ n += $1 } END { print n + 0 }'; }
    passed=$(count passed) failed=$(($(count failed) + $(count 'timed out'))) filtered=$(count skipped)
else
    cargo test --locked --no-fail-fast --lib --bins --tests "$@" 2>&1 | tee "$log" || status=$?
    count() { { grep -E '^test result: ' "$log" | grep -oE "[0-9]+ $1" || true; } | awk '{ n += $1 } END { print n + 0 }'; }
    passed=$(count passed) failed=$(count failed) filtered=$(count 'filtered out')
fi

# "name: reason" a line; an allowed one stands in the file by its name. "name/part" is a part that a test went on without.
skipped=0 parts=0 refused=0 lacking=
while IFS= read -r line; do
    name=${line%%:*}
    case $name in
        */*) parts=$((parts + 1)) ;;
        *) skipped=$((skipped + 1)) ;;
    esac
    instead=$(awk -v name="$name" '$1 == name { $1 = ""; print substr($0, 2) }' tests/allowed-skips)
    lacking+="  $name"$'\n'"      not here: ${line#*: }"$'\n'
    if [ -n "$instead" ]; then
        lacking+="      allowed:  $instead"$'\n'
    else
        refused=$((refused + 1))
        lacking+="      SKIPPED BUT NOT IN tests/allowed-skips"$'\n'
    fi
done < <(sort -u "$SLIPWAY_SKIP_LOG")
if [ -n "$lacking" ]; then
    who=
    [ "$(id -u)" -eq 0 ] || who=' It was not run as root, as `sudo make test` would be.'
    echo "==== NOT SHOWN BY THIS RUN: $skipped of its tests cannot run here, others did without $parts of their parts.$who"
    printf '%s' "$lacking"
    echo "===="
fi

# A test that says it cannot run ends like one that passed.
passed=$((passed > skipped ? passed - skipped : 0))
[ "$passed" -gt 0 ] || { echo "no test ran"; status=1; }
[ "$refused" -eq 0 ] || status=1
verdict=ok
[ "$status" -eq 0 ] || verdict=FAILED
echo "test result: $verdict. $passed passed; $failed failed; $skipped ignored; 0 measured; $filtered filtered out"
exit "$status"
