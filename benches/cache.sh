#!/usr/bin/env bash
# Measures what the cache costs when it is large: listing, opening, planning, collecting, adding, evicting, many bundles; and a
# lock file of 200 artifacts at a round trip of 20 ms. Prints a Markdown table, a line for each figure with its budget;
# everything it makes is in one temporary directory that is gone afterwards. Writing and deleting 125 000 entries takes most of
# its time.
#
#     cargo build --release --bin greentic-dist && benches/cache.sh
#
#     GREENTIC_DIST=path   the program to measure (target/release/greentic-dist)
#     FLOOR=path           a bare program to compare the lock file with: FLOOR set HOST:PORT LIST OUTDIR CONNECTIONS
#     RUNS=9               timed runs of each command; the median and the best are printed
#     ENTRIES=100000       entries of the large cache
#     BUNDLES=10000        bundle records of the third cache
#     VICTIMS=5000         entries that are evicted while others are added
#     TMPDIR=path          needs about 2 GiB and 600 000 inodes
#
# Each run is a process of its own. Wall time includes its start; processor time is that of all its threads, so that the two
# tell on a busy machine what the program costs. Caches are written by cache.py as the program writes them, small artifacts,
# half of them of a registry, and each is read once before it is measured, so that the page cache is warm.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$here")
runs=${RUNS:-9}
entries=${ENTRIES:-100000}
bundles=${BUNDLES:-10000}
victims=${VICTIMS:-5000}
floor=${FLOOR:-}
ours=${GREENTIC_DIST:-${CARGO_TARGET_DIR:-$top/target}/release/greentic-dist}

note() {
    printf '%s\n' "$*" >&2
}
[ -x "$ours" ] || { note "cache.sh: $ours is not built"; exit 1; }
[ -z "$floor" ] || [ -x "$floor" ] || { note "cache.sh: FLOOR=$floor is no program"; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/greentic-cache-bench.XXXXXX")
started=()
finish() {
    local pid
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    chmod -R u+w "$work" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
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

# await FILE: waits for the first line of a program that was started, and prints it.
await() {
    local tries
    for tries in $(seq 100); do
        if [ -s "$1" ]; then
            head -n 1 "$1"
            return 0
        fi
        sleep 0.1
    done
    note "cache.sh: nothing in $1 after $tries tries"
    return 1
}

# slow_lock COUNT: a lock file of so many artifacts of 64 KiB, each question a round trip of 20 ms away.
slow_lock() {
    local count=$1 address host number
    python3 "$here/cache.py" components "$work/tree" --count "$count"
    "$ours" serve --root "$work/tree" >"$work/serve.out" 2>/dev/null &
    started+=($!)
    address=$(await "$work/serve.out")
    python3 "$here/pull.py" delay --port "${address##*:}" --round-trip-ms 20 >"$work/delay.out" &
    started+=($!)
    host="127.0.0.1:$(await "$work/delay.out")"
    python3 "$here/cache.py" lock "$work/set.lock.json" --count "$count" --host "$host"
    note "measuring: a lock file of $count artifacts"
    # Once without being timed: the server hashes what is asked for the first time.
    "$ours" --cache-dir "$work/sets/warm" pull -q --lock "$work/set.lock.json" >/dev/null
    python3 "$here/cache.py" measure --title "lock of $count x 64 KiB, 20 ms round trip" --budget "≤ 1.3 × a bare program" \
        --runs "$runs" -- "$ours" --cache-dir "$work/sets/{n}" pull -q --lock "$work/set.lock.json"
    [ -n "$floor" ] || return 0
    for number in $(seq 0 $((count - 1))); do
        echo "components/c$number 1.0.0"
    done >"$work/set.list"
    for number in $(seq 0 $((runs - 1))); do
        mkdir -p "$work/floor/$number"
    done
    python3 "$here/cache.py" measure --title "the same, a bare program with 32 connections" --budget "" --runs "$runs" -- \
        "$floor" set "$host" "$work/set.list" "$work/floor/{n}" 32
}

note "writing caches"
python3 "$here/cache.py" fill "$work/large" --count "$entries" >"$work/large.digests"
python3 "$here/cache.py" fill "$work/medium" --count 10000 --bytes 4096 >"$work/medium.digests"
python3 "$here/cache.py" fill "$work/staged" --count "$bundles" --bundles "$bundles" >"$work/staged.digests"
python3 "$here/cache.py" fill "$work/victims" --count "$victims" --bytes 4096 >/dev/null
sed 's/^/bundle:/' "$work/staged.digests" >"$work/bundles.list"
python3 "$here/cache.py" fill "$work/single" --count 1 >"$work/single.digests"
mkdir -m 700 "$work/empty"
first() { python3 "$here/cache.py" artifacts "$work/$1" --count "$runs"; }
first artifacts
some=$(sed -n "$((entries / 2))p" "$work/large.digests")
# A cap that the second artifact of 64 KiB passes.
full=$((10000 * 4096 + (runs + 3) * 65536))

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
measure "\`bundle state\`, one of $bundles, durable" "≤ 15 ms" "$work/staged" -- \
    bundle state "{line:$work/bundles.list}" inactive
measure "\`retention plan\`, $bundles bundles" "≤ 500 ms" "$work/staged" -- retention plan --max-bytes 1
measure "add 64 KiB to an empty cache" "" "$work/empty" GREENTIC_CACHE_MAX_BYTES=1073741824 -- \
    pull "$work/artifacts/{n}.wasm"
# The sum of the sizes is counted once, by the first that asks for it.
GREENTIC_CACHE_MAX_BYTES=1073741824 "$ours" --cache-dir "$work/medium" pull "$work/artifacts/0.wasm" >/dev/null
first roomy
measure "add 64 KiB to 10 000 entries, below the cap" "≤ 2 ms more" "$work/medium" GREENTIC_CACHE_MAX_BYTES=1073741824 -- \
    pull "$work/roomy/{n}.wasm"
first tight
measure "add 64 KiB to 10 000 entries, at the cap" "" "$work/medium" "GREENTIC_CACHE_MAX_BYTES=$full" -- \
    pull "$work/tight/{n}.wasm"
python3 "$here/cache.py" artifacts "$work/beside" --count 200
note "measuring: adding beside an eviction"
"$ours" --cache-dir "$work/victims" cache ls >/dev/null
python3 "$here/cache.py" beside --title "add 64 KiB while $victims are evicted" --budget "none fails, pauses ≤ 50 ms" \
    --runs 200 --work "$ours --cache-dir $work/victims retention apply --max-bytes 1" -- \
    "$ours" --cache-dir "$work/victims" pull "$work/beside/{n}.wasm"
slow_lock 200
