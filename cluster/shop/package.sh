#!/usr/bin/env bash
# Makes a package of the demo's service: package.sh VERSION DIRECTORY ['key = value' for shop.toml]...
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: $0 VERSION DIRECTORY ['key = value']..." >&2
    exit 2
fi
version=$1 directory=$2
shift 2
target=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/slipway/target}
program=$target/debug/examples/shop
if [ ! -x "$program" ]; then
    echo "$0: $program is not built: run \`make build\` first" >&2
    exit 1
fi
mkdir -p "$directory/bin"
install -m 755 "$program" "$directory/bin/shop"
strip "$directory/bin/shop"
{
    printf 'version = "%s"\n' "$version"
    [ $# -eq 0 ] || printf '%s\n' "$@"
} >"$directory/shop.toml"
echo "$directory: shop $version"
