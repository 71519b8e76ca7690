#!/usr/bin/env bash
# README on a machine that is not yours: `fresh.sh bookworm|trixie` makes a bare Debian root and runs README's two commands and its first
# walk in it, word for word, as they stand in README.md. Root; called by `make fresh`. The last line is one JSON object.
#
# In the root: the base system, `make` and what README says must be there already; of this machine the Rust toolchain (read-only), the crates
# that cargo has fetched and the compiler cache with its program. The clone is of HEAD. The network and loopback are this machine's, so
# nothing else of Slipway may listen on the ports of `make demo` and `slipwayd dev`.
#   FRESH_STEPS=demo,test,walk   which of them; `setup` is the set-up alone
#   FRESH_MINUTES=75             time for all of them
set -euo pipefail
cd "$(dirname "$0")/.."

suite=${1:-}
case $suite in bookworm | trixie) ;; *)
    echo "usage: $0 bookworm|trixie" >&2
    exit 2
    ;;
esac
steps=${FRESH_STEPS:-demo,test,walk}
minutes=${FRESH_MINUTES:-75}
if [ "$(id -u)" -ne 0 ]; then
    echo '{"skipped":"needs root, for a root of its own"}'
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
command -v mmdebstrap >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends mmdebstrap; }

# A mount and a pid namespace of its own: whatever it starts or mounts is gone with it.
if [ -z "${FRESH_INSIDE:-}" ]; then
    # What the root shares must be there: its own way to the registry may lack this machine's certificates.
    cargo fetch -q --locked
    work=$(mktemp -d "${FRESH_DIR:-/var/tmp}/slipway-fresh.XXXXXX")
    trap 'rm -rf --one-file-system "$work"' EXIT
    git clone -q --no-hardlinks . "$work/clone"
    export FRESH_INSIDE=$work
    unshare --mount --pid --fork --kill-child "$0" "$suite"
    exit
fi

work=$FRESH_INSIDE root=$FRESH_INSIDE/root
began=$SECONDS
say() { printf 'fresh %s: [%s +%d s] %s\n' "$suite" "$(date +%H:%M:%S)" $((SECONDS - began)) "$*"; }

say "making a bare root of $(git -C "$work/clone" rev-parse --short HEAD)"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mmdebstrap --quiet --variant=minbase --keyring="$keyring" "$suite" "$root"
say "root made: $(du -sh "$root" | cut -f1), $(chroot "$root" dpkg-query -W | wc -l) packages"

mount --make-rprivate /
# A mount of its own, as tests make namespaces in it: `/` of a change of root has to be one for that.
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
install -m 644 /etc/resolv.conf /etc/hosts "$root/etc/"
share() { # share DIRECTORY [ro]
    [ -d "$1" ] || return 0
    mkdir -p "$root/$1"
    mount --bind "$1" "$root/$1"
    [ "${2:-}" != ro ] || mount -o remount,bind,ro "$root/$1"
}
toolchain=$(rustc --print sysroot) cargo=${CARGO_HOME:-$HOME/.cargo} ccache=${CCACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/ccache}
share "$toolchain" ro
mkdir -p "$cargo/registry" "$ccache"
share "$cargo/registry"
share "$ccache"
mv "$work/clone" "$root/slipway"

# The root of a namespace and no directory in one: who makes a namespace inside would see paths from the outside otherwise.
into='cd "$1" && mkdir -p .outside && pivot_root . .outside && umount -l .outside && rmdir .outside && shift && exec chroot . "$@"'
inside() { # inside SECONDS COMMANDS
    timeout --kill-after=30 "$1" unshare --mount bash -c "$into" bash "$root" /usr/bin/env -i HOME="$HOME" TERM=dumb LANG=C.UTF-8 \
        PATH="$toolchain/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
        CARGO_HOME="$cargo" CCACHE_DIR="$ccache" CARGO_NET_OFFLINE="${FRESH_OFFLINE:-false}" \
        bash -c "cd /slipway && $2"
}
ends=$((SECONDS + minutes * 60))
declare -A took
failed=
step() { # step NAME COMMANDS
    local name=$1 left=$((ends - SECONDS)) from=$SECONDS status=0
    [ -z "$failed" ] || return 0
    [ "$left" -gt 0 ] || { failed=$name; say "$name: the $minutes minutes are over"; return 0; }
    say "$name begins"
    inside "$left" "$2" >"$work/said" 2>&1 || status=$?
    took[$name]=$((SECONDS - from))
    if [ "$status" -ne 0 ]; then
        failed=$name
        # What failed may stand far above the end.
        { grep -E -A 4 '^test .* FAILED$|panicked at' "$work/said" | head -n 60; tail -n 60 "$work/said"; } | sed 's/^/    /'
        [ "$status" -ne 124 ] || say "$name: the $minutes minutes are over"
        say "$name FAILED with $status after ${took[$name]} s"
        return 0
    fi
    tail -n "${3:-3}" "$work/said" | sed 's/^/    /'
    say "$name: ok in ${took[$name]} s"
}
has() { [[ ,$steps, == *,$1,* ]]; }

# README's own lines: what stands indented under a heading.
lines() { # lines HEADING
    sed -n "/^## $1\$/,/^## /p" README.md | sed -n 's/^    //p'
}
two=$(lines 'Two commands') walk=$(lines 'Your first own rollout')
what_it_needs=$(sed -n 's/^On a Debian machine with only Rust and .*(`\(.*\)`).*/\1/p' README.md)
# The compiler cache is this machine's; nothing in README asks for it, and without it RocksDB alone takes a quarter of an hour.
step cache "apt-get update -q && apt-get install -y -q --no-install-recommends ccache"
step prerequisites "apt-get update -q && ${what_it_needs:-false}"
if has setup; then step setup "make setup" 8; fi
for name in demo test; do
    command=$(grep -m1 "^make $name\b" <<<"$two")
    if has "$name"; then step "$name" "$command" 12; fi
done
if has walk; then
    # The terminals: what never ends goes to the background, and `slipwayd dev` is there when its door opens.
    script='set -euo pipefail
trap "kill \$(jobs -p) 2>/dev/null; wait" EXIT
ask() { for i in $(seq 600); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done; echo "$* never worked" >&2; return 1; }
'
    while IFS= read -r line; do
        [ -n "$line" ] || continue
        shown=$(printf '%q' "$line")
        script+="echo \"\$ \"$shown"$'\n'
        case $line in
        slipwayd\ dev*) script+="$line >/tmp/dev.log 2>&1 &"$'\n'"ask slipway worker list"$'\n' ;;
        slipway\ traffic\ probe*) script+="$line >/tmp/probe.log 2>&1 &"$'\n' ;;
        dig\ *) script+="$line | tee /tmp/dig; grep -q 'ANSWER: [1-9]' /tmp/dig"$'\n' ;;
        *) script+="$line"$'\n' ;;
        esac
    done <<<"$walk"
    printf '%s' "$script" >"$root/walk.sh"
    step walk "bash /walk.sh" 80
fi

say "$([ -z "$failed" ] && echo "all passed" || echo "$failed failed")"
json=
for name in cache prerequisites setup demo test walk; do [ -z "${took[$name]:-}" ] || json+=",\"$name\":${took[$name]}"; done
printf '{"suite":"%s","ok":%s,"seconds":{%s}}\n' "$suite" "$([ -z "$failed" ] && echo true || echo false)" "${json#,}"
[ -z "$failed" ]
