#!/usr/bin/env bash
# Breaks the pure layers in small ways, one at a time, and asks whether a test notices: `mutants.sh K/N` tries every N-th mutant of `engine`,
# `state` and `traffic`, from the K-th (0 to N-1) on. Called by `make mutants`. The last line is one JSON object.
#
# The pure layers need neither RocksDB nor a socket, so a crate of them alone is made below the target directory: the modules that the
# import table of ARCHITECTURE.md lets them see, and `tests/pure`. It builds in seconds, where the whole takes minutes.
#   MUTANTS=name         only mutants whose description has this (a regular expression of cargo-mutants)
#   JOBS=2               how many at once
# A mutant that no test notices must stand in tests/allowed-mutants with its reason, or count as missed.
set -euo pipefail
cd "$(dirname "$0")/.."

shard=${1:-0/20}
if ! [[ $shard =~ ^[0-9]+/[1-9][0-9]*$ && ${shard%/*} -lt ${shard#*/} ]]; then
    echo "SHARD=$shard: write K/N with K from 0 to N-1, such as 0/20" >&2
    exit 2
fi
tools=${SLIPWAY_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/slipway/tools}
PATH=$PATH:$tools/bin
work=$(realpath -m "${CARGO_TARGET_DIR:-target}")/mutants
crate=$work/crate
# What is built stays: the crates that ours stands on take minutes.
mkdir -p "$crate"
find "$crate" -mindepth 1 -maxdepth 1 ! -name target -exec rm -rf {} +
rm -rf "$work/mutants.out"
mkdir -p "$crate/src" "$crate/tests" "$crate/.config" "$crate/.cargo"

layers=(model traffic state engine)
for layer in "${layers[@]}"; do
    cp -r "src/$layer" "$crate/src/"
    echo "pub mod $layer;" >>"$crate/src/lib.rs"
done
cp -r tests/pure tests/helpers tests/golden "$crate/tests/"
cp Cargo.lock "$crate/"
cp .cargo/config.toml "$crate/.cargo/"

# Of the dependencies those that these files name; what is left out of the lock file is taken out by cargo.
used() { # used SECTION: the lines of that section whose crate is named
    sed -n "/^\[$1\]\$/,/^\[/p" Cargo.toml | grep -E '^[a-z].* = ' | while IFS= read -r line; do
        name=${line%% *}
        if grep -rqE "\b${name//-/_}::|\bextern crate ${name//-/_}" "$crate/src" "$crate/tests"; then echo "$line"; fi
    done
}
{
    sed -n '/^\[package\]$/,/^$/p' Cargo.toml | grep -v default-run
    echo '[dependencies]' && used dependencies
    echo '[dev-dependencies]' && used dev-dependencies
    printf '%s\n' '[profile.dev]' 'debug = false' '[profile.dev.package."*"]' 'opt-level = 2'
} >"$crate/Cargo.toml"
# Stories first: they notice most, and the first that fails ends the run. What takes a minute comes last.
cat >"$crate/.config/nextest.toml" <<'EOF'
[profile.default]
fail-fast = true
slow-timeout = { period = "60s", terminate-after = 3 }
status-level = "none"
final-status-level = "fail"
[[profile.default.overrides]]
filter = 'binary(pure) and test(/^(transcripts|guards|switches)/)'
priority = 50
[[profile.default.overrides]]
filter = 'binary(pure) and test(/^(lease_model|rest|history)/)'
priority = -50
EOF

status=0
unset CARGO_TARGET_DIR
(cd "$crate" && cargo nextest run --no-run)
cargo mutants --dir "$crate" --output "$work" --no-config --colors never --no-times \
    --file 'src/engine/**' --file 'src/state/**' --file 'src/traffic/**' --exclude '**/tests.rs' --exclude 'src/**/invariants*' \
    ${MUTANTS:+--re "$MUTANTS"} --shard "$shard" --sharding round-robin --copy-target true \
    --jobs "${JOBS:-2}" --test-tool nextest \
    --minimum-test-timeout 120 --cap-lints true || status=$?
# 2: some were missed; 3: some ran out of time. Anything else is no judgement.
case $status in 0 | 2 | 3) ;; *)
    echo '{"ok":false,"why":"cargo-mutants could not run"}'
    exit 1
    ;;
esac

out=$work/mutants.out
lines() { grep -c . "$out/$1.txt" || true; }
# "src/engine/x.rs:12:5: replace ..." without the place, as lines move.
plain() { sed -E 's/:[0-9]+:[0-9]+: /: /' "$out/missed.txt"; }
allowed=0 missed=0
while IFS= read -r mutant; do
    if grep -qxF -e "$mutant" <(sed -E '/^(#|$|    )/d' tests/allowed-mutants); then
        allowed=$((allowed + 1))
    else
        missed=$((missed + 1))
        echo "MISSED $(grep -F -e "${mutant#*: }" "$out/missed.txt" | grep -F -e "${mutant%%: *}" | head -n1)"
    fi
done < <(plain)
caught=$(lines caught) late=$(lines timeout) unviable=$(lines unviable)
judged=$((caught + late + missed + allowed))
ok=true
[ $((missed * 20)) -lt "$judged" ] || ok=false
printf '{"shard":"%s","judged":%d,"caught":%d,"timed_out":%d,"missed":%d,"missed_with_reason":%d,"unviable":%d,"ok":%s}\n' \
    "$shard" "$judged" "$caught" "$late" "$missed" "$allowed" "$unviable" "$ok"
[ "$ok" = true ]
