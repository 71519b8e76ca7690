#!/usr/bin/env bash
# Stories at random, many of them: `rest.sh FROM..TO`, in an optimised build, two processes. A run that was killed goes on where it was: the
# reports of finished ranges stand below the target directory, by program. Findings are printed; the last line is one JSON object of counts.
set -euo pipefail
cd "$(dirname "$0")/.."

from=${1%%..*} to=${1##*..}
if ! [[ $from =~ ^[0-9]+$ && $to =~ ^[0-9]+$ && $from -le $to ]]; then
    echo "SEEDS=$1: write a range such as 1..20000" >&2
    exit 2
fi
cargo test --locked --profile rest --test pure --no-run
built=$(cargo test --locked --profile rest --test pure --no-run 2>&1)
program=$(sed -nE 's/.*Executable .*\((.*)\).*/\1/p' <<<"$built")
[ -x "$program" ] || { echo "no test program: $built" >&2; exit 1; }
# Another build is another run.
dir=${CARGO_TARGET_DIR:-target}/rest-runs/$(sha256sum "$program" | cut -c1-16)-$from-$to
mkdir -p "$dir"
export SLIPWAY_REST_DIR=$dir

chunk=200
ranges=()
for ((at = from; at <= to; at += chunk)); do
    end=$((at + chunk - 1 < to ? at + chunk - 1 : to))
    [ -e "$dir/$at-$end.json" ] || ranges+=("$at..$end")
done
echo "${#ranges[@]} ranges of $chunk seeds to play, reports in $dir"
play() {
    SLIPWAY_REST=$2 "$1" --exact rest::the_stories_reach_what_they_claim >"$SLIPWAY_REST_DIR/$2.log" 2>&1 || { cat "$SLIPWAY_REST_DIR/$2.log"; return 255; }
    rm -f "$SLIPWAY_REST_DIR/$2.log"
    echo "$2"
}
export -f play
if [ ${#ranges[@]} -gt 0 ]; then
    printf '%s\n' "${ranges[@]}" | xargs -P 2 -I{} bash -c 'play "$0" "$1"' "$program" {}
fi
said=$(SLIPWAY_REST=merge "$program" --exact rest::the_stories_reach_what_they_claim --nocapture | grep -E '^(seed |\{)')
printf '%s\n' "$said"
grep -q '"findings":0,' <<<"$said"
