#!/usr/bin/env bash
# Says whether this machine can build RocksDB, by using what the build uses and not by the names of files: c++ compiles and links, and the
# libclang that bindgen would take loads and reads a C header. Exit status 0 when it can; else a line that says why, and 3 when it is the
# compiler, 1 when it is libclang. SLIPWAY_PROBE_ROOT is put before the directories looked through (tests).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=${SLIPWAY_PROBE_ROOT:-}
work=$(mktemp -d "${TMPDIR:-/tmp}/slipway-probe.XXXXXX")
trap 'rm -rf "$work"' EXIT

command -v c++ >/dev/null 2>&1 || { echo "there is no C++ compiler"; exit 3; }
if ! c++ -std=c++17 -o "$work/probe" "$here/probe/libclang.cc" -ldl 2>"$work/said"; then
    echo "c++ does not compile: $(grep -m1 -E 'error|cannot' "$work/said" || head -n1 "$work/said")"
    exit 3
fi

# Where clang-sys 1.9.1 looks, in its order.
shopt -s nullglob extglob
found=()
look() {
    local file
    # Unquoted: the directory may be a pattern.
    # shellcheck disable=SC2086
    for file in $1/libclang@(.so|-*.so|.so.*|-*.so.*); do
        [[ $file == *-cpp.* ]] || found+=("$file")
    done
}
if [ -n "${LIBCLANG_PATH:-}" ]; then
    # A file, or a directory.
    if [ -f "$LIBCLANG_PATH" ]; then found=("$LIBCLANG_PATH"); else look "$LIBCLANG_PATH"; fi
else
    if [ -z "$root" ]; then
        prefix=$("${LLVM_CONFIG_PATH:-llvm-config}" --prefix 2>/dev/null) || prefix=
        for directory in ${prefix:+bin lib lib64}; do look "$prefix/$directory"; done
        IFS=: read -r -a more <<<"${LD_LIBRARY_PATH:-}:${LIBRARY_PATH:-}"
        for directory in ${more[@]+"${more[@]}"}; do [ -z "$directory" ] || look "$directory"; done
    fi
    for pattern in '/usr/local/llvm*/lib*' '/usr/local/lib*/*/*' '/usr/local/lib*/*' '/usr/local/lib*' '/usr/lib*/*/*' '/usr/lib*/*' '/usr/lib*'; do
        look "$root$pattern"
    done
fi
args=()
# bindgen passes the include directories of a clang on, if there is one.
if resources=$(clang -print-resource-dir 2>/dev/null); then args=(-a -isystem -a "$resources/include"); fi
"$work/probe" ${args[@]+"${args[@]}"} ${found[@]+"${found[@]}"}
