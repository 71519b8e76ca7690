#!/usr/bin/env bash
# Clients and forwarders of Debian against a cluster (tests/dns_clients); `dns-clients.sh PARTS` takes some of tools,resolvers,forwarder,haproxy.
# The last line is one JSON object. Called by `make dns-clients`.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" -ne 0 ]; then
    echo '{"skipped":"needs root, for namespaces"}'
    exit 1
fi
# systemd-resolved is unpacked, not installed: its package puts its own file in the place of /etc/resolv.conf.
export SLIPWAY_RESOLVED=${XDG_CACHE_HOME:-$HOME/.cache}/slipway/tools/systemd-resolved
if [ ! -x "$SLIPWAY_RESOLVED/lib/systemd/systemd-resolved" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    (cd "$work" && { apt-get download -q systemd-resolved || { apt-get update -q && apt-get download -q systemd-resolved; }; })
    mkdir -p "$SLIPWAY_RESOLVED"
    dpkg -x "$work"/systemd-resolved_*.deb "$SLIPWAY_RESOLVED"
fi
export SLIPWAY_CLIENTS=${1:-}
cargo test --locked --test dns_clients
