#!/usr/bin/env bash
# Measures what the cache costs when it is large: listing, opening, planning, collecting, adding, many bundles.
# Prints a Markdown table; everything it makes is in one temporary directory that is gone afterwards.
#
#     cargo build --release --bin greentic-dist && benches/cache.sh
#
#     GREENTIC_DIST=path   the program to measure (target/release/greentic-dist)
#     RUNS=9               timed runs of each command; the median and the best are printed
#     ENTRIES=100000       entries of the large cache
#     BUNDLES=10000        bundle records of the third cache
#     TMPDIR=path          needs about 2 GiB and 500 000 inodes
#
# Each run is a process of its own. Wall time includes its start; processor time is that of all its threads, so that the two
# tell on a busy machine what the program costs. Caches are written by cache.py as the program writes them, small artifacts,
# and each is read once before it is measured, so that the page cache is warm.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$here")
runs=${RUNS:-9}
entries=${ENTRIES:-100000}
bundles=${BUNDLES:-10000}
ours=${GREENTIC_DIST:-${CARGO_TARGET_DIR:-$top/target}/release/greentic-dist}

note() {
    printf '%s\n' "$*" >&2
}
[ -x "$ours" ] || { note "cache.sh: $ours is not built"; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/greentic-cache-bench.XXXXXX")
trap 'chmod -R u+w "$work" 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# The measured program sees no configuration of the person who runs this.
export HOME="$work/home"
mkdir -p "$HOME"
unset "${!GREENTIC_@}" XDG_CACHE_HOME XDG_CONFIG_HOME

# measure TITLE BUDGET CACHE [NAME=VALUE …] -- ARGUMENTS…
measure() {
    local title=$1 budget=$2 cache=$3 env=()
    shift 3
    while [ "$1" != -- ]; do
        env+=(--env "$1")
        shift
    done
    shift
    note "measuring: $title"
    "$ours" --cache-dir "$cache" cache ls >/dev/null
    python3 "$here/cache.py" measure --title "$title" --budget "$budget" --runs "$runs" "${env[@]}" -- \
        "$ours" --cache-dir "$cache" "$@"
}

note "writing caches"
python3 "$here/cache.py" fill "$work/large" --count "$entries" >"$work/large.digests"
python3 "$here/cache.py" fill "$work/medium" --count 10000 --bytes 4096 >"$work/medium.digests"
python3 "$here/cache.py" fill "$work/staged" --count "$bundles" --bundles "$bundles" >"$work/staged.digests"
python3 "$here/cache.py" fill "$work/single" --count 1 >"$work/single.digests"
mkdir -m 700 "$work/empty"
first() { python3 "$here/cache.py" artifacts "$work/$1" --count "$runs"; }
first artifacts
some=$(sed -n "$((entries / 2))p" "$work/large.digests")
# A cap that the second artifact of 64 KiB passes.
full=$((10000 * 4096 + (runs + 2) * 65536))

cpu=$(sed -nE 's/^model name\s*: //p' /proc/cpuinfo | sort | uniq -c | sed -E 's/^ *([0-9]+) /\1 x /' | head -1)
echo "$cpu, $(df --output=fstype "$work" | tail -1), kernel $(uname -r), load $(cut -d' ' -f1 /proc/loadavg) at the start;" \
    "$("$ours" --version); $runs runs."
echo
echo "| work | median ms | best ms | processor ms | peak MiB | budget |"
echo "|---|---|---|---|---|---|"
measure "\`cache ls\`, $entries entries" "≤ 1 s, ≤ 64 MiB" "$work/large" -- cache ls
measure "\`cache stat\` of one of $entries" "O(1)" "$work/large" -- cache stat "$some"
measure "cached \`pull\` of one of $entries" "≤ 5 ms" "$work/large" -- pull "$some"
measure "cached \`pull\` of the only one" "" "$work/single" -- pull "$(cat "$work/single.digests")"
measure "\`cache size\`, $entries entries" "" "$work/large" -- cache size
measure "\`retention plan\`, $entries entries" "≤ 3 s" "$work/large" -- retention plan --max-bytes 3MB
measure "\`cache gc\`, $entries entries, nothing to do" "≤ 3 s" "$work/large" -- cache gc
measure "\`bundle ls\`, $bundles records" "≤ 300 ms" "$work/staged" -- bundle ls
measure "\`retention plan\`, $bundles bundles" "≤ 500 ms" "$work/staged" -- retention plan --max-bytes 1
measure "add 64 KiB to an empty cache" "" "$work/empty" GREENTIC_CACHE_MAX_BYTES=1073741824 -- \
    pull "$work/artifacts/{n}.wasm"
first roomy
measure "add 64 KiB to 10 000 entries, below the cap" "≤ 2 ms more" "$work/medium" GREENTIC_CACHE_MAX_BYTES=1073741824 -- \
    pull "$work/roomy/{n}.wasm"
first tight
measure "add 64 KiB to 10 000 entries, at the cap" "" "$work/medium" "GREENTIC_CACHE_MAX_BYTES=$full" -- \
    pull "$work/tight/{n}.wasm"
