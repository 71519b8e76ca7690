#!/usr/bin/env bash
# The gate beside the tests: formatting, clippy with warnings denied, the house rules, licences and advisories.
# Writes nothing into the checkout. Called by `make check`, which sets CARGO_TARGET_DIR and installs what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:?set by the Makefile}
tools=${SLIPWAY_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/slipway/tools}
step() { printf '\n== %s\n' "$*"; }

step "formatting"
cargo fmt --check

step "house rules (tests/tidy)"
# Compiled alone: the rules read the sources and need nothing of the crate, so they answer at once.
mkdir -p "$target/tidy"
CARGO_MANIFEST_DIR=$PWD rustc --edition 2024 --test tests/tidy/main.rs -o "$target/tidy/tidy-$$"
trap 'rm -f "$target/tidy/tidy-$$"' EXIT
"$target/tidy/tidy-$$" --quiet

step "clippy"
cargo clippy --locked --all-targets --quiet -- -D warnings

step "licences, sources, bans"
deny() { "$tools/bin/cargo-deny" --locked "$@"; }
deny check --hide-inclusion-graph licenses bans sources

step "advisories"
said=$(mktemp)
trap 'rm -f "$target/tidy/tidy-$$" "$said"' EXIT
export GIT_TERMINAL_PROMPT=0
not_fetched='failed to (fetch|clone|get).*(database|FETCH_HEAD)|is stale'
if timeout 180 "$tools/bin/cargo-deny" --locked check --hide-inclusion-graph advisories >"$said" 2>&1; then
    tail -n1 "$said"
elif [ $? -ne 124 ] && ! grep -qE "$not_fetched" "$said"; then
    cat "$said"
    exit 1
elif "$tools/bin/cargo-deny" --locked --offline check --hide-inclusion-graph advisories >"$said" 2>&1; then
    echo "WARNING: the advisory database could not be fetched; the copy on this machine was used."
elif grep -qE "$not_fetched" "$said"; then
    echo "********************************************************************************"
    echo "WARNING: ADVISORIES WERE NOT CHECKED: the advisory database cannot be reached, and"
    echo "there is no recent copy of it here. Licences, bans and sources were checked."
    echo "********************************************************************************"
else
    cat "$said"
    exit 1
fi

printf '\ncheck: ok\n'
