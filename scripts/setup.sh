#!/usr/bin/env bash
# Installs what a fresh Debian with Rust lacks; does nothing, and fast, when everything is there.
#   setup.sh build    what a build needs: libclang (bindgen) and a C++ compiler for RocksDB; dig, if it can be had
#   setup.sh test     and what tests use: ip, dig; nft, libfaketime and ext4's tools if they can be had (else parts are skipped, and said)
#   setup.sh check    and cargo-deny, rustfmt, clippy
#   setup.sh mutants  what tests use, and cargo-mutants and cargo-nextest
#   setup.sh bench-raft   what a build needs, and etcd to be measured beside; without root it says so and goes on without etcd
#   setup.sh bench-dns    likewise, and Knot
#   setup.sh dns-clients  and the clients of `make dns-clients`
# Without root it prints the one line to run and exits with 1.
set -euo pipefail

what=${1:-build}
case $what in build | test | check | mutants | bench-raft | bench-dns | dns-clients) ;; *)
    echo "usage: $0 [build|test|check|mutants|bench-raft|bench-dns|dns-clients]" >&2
    exit 2
    ;;
esac

have() { command -v "$1" >/dev/null 2>&1; }

# What the build uses, tried: a file's name says little (`libclang-cpp.so.14` is no libclang, and one without its headers is of no use).
here=$(cd "$(dirname "$0")" && pwd)
probe() { "$here/probe.sh" 2>&1; }

# Packages without which the target cannot work, and those that only make it better.
need=() want=()
status=0
said=$(probe) || status=$?
if [ "$status" -ne 0 ]; then
    if [ "$status" -ne 3 ] && [ -n "${LIBCLANG_PATH:-}" ]; then
        echo "setup: LIBCLANG_PATH is $LIBCLANG_PATH, but: $said. Unset it, or let it name the directory of a libclang.so" >&2
        exit 1
    fi
    # Without a compiler libclang cannot be tried.
    [ "$status" -ne 3 ] || need+=(g++)
    need+=(libclang-dev)
fi
have make || need+=(make)
[ -d /usr/lib/ccache ] || want+=(ccache)
# README's first walk asks a node with it.
have dig || want+=(bind9-dnsutils)
if [ "$what" = test ] || [ "$what" = check ]; then
    have ip || need+=(iproute2)
    have dig || need+=(bind9-dnsutils)
fi
if [ "$what" = dns-clients ]; then
    have ip || need+=(iproute2)
    have dig || need+=(bind9-dnsutils)
    have kdig || need+=(knot-dnsutils)
    have drill || need+=(ldnsutils)
    have musl-gcc || need+=(musl-tools)
    have javac || need+=(default-jdk-headless)
    have go || need+=(golang-go)
    [ -x /usr/sbin/haproxy ] || need+=(haproxy)
    # Its package would start a proxy that nobody asked for.
    export RUNLEVEL=1
fi

if [ ${#need[@]} -gt 0 ]; then
    # What is merely useful comes along only when something must be installed anyway.
    packages=("${need[@]}" ${want[@]+"${want[@]}"})
    if ! have apt-get; then
        echo "setup: missing: ${need[*]} (names of Debian packages). Install what your system calls them." >&2
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        echo "setup: missing: ${need[*]}. Run this once, then try again:" >&2
        echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends ${packages[*]}" >&2
        exit 1
    fi
    echo "setup: installing ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -y -q --no-install-recommends "${packages[@]}"
    said=$(probe) || {
        echo "setup: RocksDB cannot be built here: $said" >&2
        exit 1
    }
fi

# What only makes tests, or a walk, say more: tried with root, and no failure when it cannot be had.
more=()
have dig || more+=(bind9-dnsutils)
if [ "$what" = test ] || [ "$what" = check ]; then
    have nft || more+=(nftables)
    have mkfs.ext4 || more+=(e2fsprogs)
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || more+=(faketime)
fi
if [ ${#more[@]} -gt 0 ] && have apt-get && [ "$(id -u)" -eq 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    add() { timeout 120 apt-get install -y -q --no-install-recommends "${more[@]}" >/dev/null 2>&1; }
    add || { timeout 60 apt-get update -q >/dev/null 2>&1 && add; } ||
        echo "setup: without ${more[*]}: what needs them is reported as skipped"
elif ! have dig; then
    echo "setup: dig is not there; README's first walk calls it: sudo apt-get install -y --no-install-recommends bind9-dnsutils"
fi

# The other side of a comparison. The packages start servers of their own, which nobody asked for.
beside() {
    local program=$1 package=$2
    PATH=$PATH:/usr/sbin have "$program" && return 0
    if have apt-get && [ "$(id -u)" -eq 0 ]; then
        echo "setup: installing $package"
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -q && RUNLEVEL=1 apt-get install -y -q --no-install-recommends "$package"; } ||
            echo "setup: $package could not be installed: the ratios will be null" >&2
    else
        echo "setup: no $program found: the ratios will be null. To have them, run this once:" >&2
        echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends $package" >&2
    fi
}
[ "$what" != bench-raft ] || beside etcd etcd-server
[ "$what" != bench-dns ] || beside knotd knot

# Rust: the version stands in Cargo.toml; no file here makes rustup download a toolchain.
PATH=$PATH:$HOME/.cargo/bin
if ! have cargo; then
    echo "setup: no cargo found: install Rust (https://rustup.rs), then try again" >&2
    exit 1
fi
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
found=$(rustc --version | cut -d' ' -f2 | cut -d- -f1)
if [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n1)" != "$wanted" ]; then
    echo "setup: Rust $found is too old, $wanted is needed: run \`rustup update stable\`" >&2
    exit 1
fi

# tool NAME VERSION: a tool of cargo's, built once per machine, outside the clone and outside the user's own ~/.cargo/bin.
tools=${SLIPWAY_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/slipway/tools}
tool() {
    local name=$1 version=$2 build
    [[ "$(PATH=$tools/bin:$PATH "$name" --version 2>/dev/null)" != "$name $version"* ]] || return 0
    echo "setup: building $name $version into $tools (once per machine, about two minutes)"
    build=$(mktemp -d "${TMPDIR:-/tmp}/slipway-tools.XXXXXX")
    CARGO_PROFILE_DEV_DEBUG=0 cargo install "$name" --version "$version" --locked --debug --quiet --force --root "$tools" --target-dir "$build" 2>&1 |
        { grep -v 'be sure to add' || true; }
    rm -rf "$build"
    [ -x "$tools/bin/$name" ] || { echo "setup: $name could not be built" >&2; exit 1; }
}

case $what in
mutants)
    cargo nextest --version >/dev/null 2>&1 || tool cargo-nextest 0.9.143
    tool cargo-mutants 27.1.0
    exit 0
    ;;
check) ;;
*) exit 0 ;;
esac

for component in fmt clippy; do
    if ! cargo "$component" --version >/dev/null 2>&1; then
        name=${component/#fmt/rustfmt}
        echo "setup: adding the Rust component $name"
        rustup component add "$name" || {
            echo "setup: cargo $component is missing: install the Rust component $name" >&2
            exit 1
        }
    fi
done

tool cargo-deny 0.20.2
