#!/usr/bin/env bash
# Measures pulls next to curl, sha256sum and skopeo, all from one docker-registry on loopback, in one run.
# Prints a Markdown table; everything it makes is in one temporary directory that is gone afterwards.
#
#     cargo build --release --bin greentic-dist && benches/pull.sh
#
#     GREENTIC_DIST=path   the program to measure (target/release/greentic-dist)
#     FLOOR=path           a bare program to compare with: FLOOR art HOST:PORT REPO TAG OUT and
#                          FLOOR set HOST:PORT LIST OUTDIR CONNECTIONS
#     RUNS=9 LARGE_RUNS=5  timed runs of each program, and of the 1 GiB row; medians are printed
#     ROWS="…"             some of: small medium large set slowset cached resolve tls crowded interrupted (all of them)
#     TMPDIR=path          needs about 6 GiB for the 1 GiB row
#
# The programs of a row run in turn (A B A B); the ratio is the median of the ratios within each turn. greentic-dist
# syncs what it keeps to the disk, its peers do not. Before each run its output is removed, a file of the artifact's size
# is written and deleted and the disk is synced, so that every run finds the page cache alike. Peak memory and requests
# come from runs that are not timed: memory from the kernel's high-water mark of the process, requests from the
# registry's access log.
set -euo pipefail

all_rows="small medium large set slowset cached resolve tls crowded interrupted"
# shellcheck source=benches/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

with_ours=()
# ours "arguments": the line of the measured program, when there is one
ours() {
    with_ours=()
    [ -z "$ours" ] || with_ours=("greentic-dist=$ours $1")
}

with_floor=()
floor() {
    with_floor=()
    [ -z "$floor" ] || with_floor=("floor=$floor $1")
}

# cold NAME TITLE BYTES RUNS
cold() {
    local name=$1 title=$2 bytes=$3 count=$4 url
    publish "$name" "$bytes" 1
    url="http://$registry/v2/$name"
    # What sha256sum reads is written once, and in the page cache.
    curl -fs -o "$work/$name.file" "$url/blobs/$(layer_of "$name")"
    sha256sum "$work/$name.file" >/dev/null
    ours "pull --cache-dir {out} oci://$registry/$name:0"
    floor "art $registry $name 0 {out}"
    measure "$title" "$count" --bytes "$bytes" "${with_ours[@]}" "${with_floor[@]}" \
        "curl=curl -fs -H $accept $url/manifests/0 -o $work/manifest --next -fs $url/blobs/$(layer_of "$name") -o {out}" \
        "sha256sum, no transfer=sha256sum $work/$name.file" \
        "skopeo=$copy --src-tls-verify=false docker://$registry/$name:0 dir:{out}"
    rm -f "$work/$name.file"
}

# set_of TITLE HOST: 200 artifacts of 64 KiB, as few programs as each peer allows
set_of() {
    local title=$1 host=$2 number digests
    publish set $((64 * 1024)) 200
    seq 0 199 | sed 's/^/set /' >"$work/set.list"
    for number in $(seq 0 199); do
        printf 'url = "http://%s/v2/set/manifests/%s"\noutput = "/dev/null"\nheader = "%s"\n' "$host" "$number" "$accept"
    done >"$work/set.manifests"
    digests=$(cut -d' ' -f3 "$work/set")
    for number in $digests; do
        printf 'url = "http://%s/v2/set/blobs/%s"\noutput = "%s"\n' "$host" "$number" "$work/run/out/$number"
    done >"$work/set.blobs"
    printf '#!/bin/sh\nset -e\ncurl -fsZ --parallel-max 32 -K %s\ncurl -fsZ --parallel-max 32 -K %s\n' \
        "$work/set.manifests" "$work/set.blobs" >"$work/set.curl"
    printf '#!/bin/sh\nseq 0 199 | xargs -P 8 -I{} %s --src-tls-verify=false docker://%s/set:{} dir:%s/{}\n' \
        "$copy" "$host" "$work/run/out" >"$work/set.skopeo"
    chmod +x "$work/set.curl" "$work/set.skopeo"
    ours "pull --cache-dir {out} $(seq 0 199 | sed "s,^,oci://$host/set:," | tr '\n' ' ')"
    floor "set $host $work/set.list {out} 32"
    measure "$title" "$runs" --directory --bytes $((200 * 64 * 1024)) "${with_ours[@]}" "${with_floor[@]}" \
        "curl, 32 at once=$work/set.curl" "skopeo x 8=$work/set.skopeo"
}

cached() {
    local reference cache="$work/cached"
    publish small $((2 * mib)) 1
    reference="oci://$registry/small@$(pin_of small)"
    curl -fs -o "$work/cached.file" "http://$registry/v2/small/blobs/$(layer_of small)"
    ours "pull --cache-dir $cache $reference"
    if [ -n "$ours" ]; then
        "$ours" pull --cache-dir "$cache" "$reference" >/dev/null 2>&1
    fi
    measure "2 MiB again, by digest" "$((runs * 3))" "${with_ours[@]}" \
        "sha256sum=sha256sum $work/cached.file" "true, an empty program=true"
    [ -n "$ours" ] || return 0
    if command -v strace >/dev/null; then
        strace -f -e trace=socket,connect -o "$work/strace" "$ours" pull --cache-dir "$cache" "$reference" >/dev/null
        note "cached pull by digest: $(grep -c -E 'socket\(|connect\(' "$work/strace" || true) calls of socket and connect"
    fi
}

resolve() {
    local cache="$work/resolve"
    publish small $((2 * mib)) 1
    ours "resolve --cache-dir $cache oci://$registry/small:0"
    if [ -n "$ours" ]; then
        "$ours" pull --cache-dir "$cache" "oci://$registry/small:0" >/dev/null 2>&1
    fi
    measure "resolve a tag pulled before" "$((runs * 3))" "${with_ours[@]}" \
        "curl=curl -fs -I -H $accept http://$registry/v2/small/manifests/0" \
        "skopeo=skopeo --policy $work/policy.json inspect --raw --tls-verify=false docker://$registry/small:0"
}

tls() {
    local url
    tls_front "" || return 0
    publish small $((2 * mib)) 1
    url="https://$tls_host/v2/small"
    ours "pull --cache-dir {out} oci://$tls_host/small:0"
    SSL_CERT_FILE="$work/tls/certs/ca.crt" measure "2 MiB over TLS" "$runs" --bytes $((2 * mib)) "${with_ours[@]}" \
        "curl=curl -fs --cacert $work/tls/certs/ca.crt -H $accept $url/manifests/0 -o $work/manifest --next -fs --cacert $work/tls/certs/ca.crt $url/blobs/$(layer_of small) -o {out}" \
        "skopeo=$copy --src-cert-dir $work/tls/certs docker://$tls_host/small:0 dir:{out}"
}

# Every run adds an artifact that is not there yet.
crowded() {
    [ -n "$ours" ] || { note "skipped: no row of a crowded cache without greentic-dist"; return 0; }
    publish set $((64 * 1024)) 200
    note "writing a cache of 10 000 entries"
    helper entries "$work/crowded" --count 10000
    note "entries that cache ls lists: $("$ours" cache ls --cache-dir "$work/crowded" 2>/dev/null | wc -l)"
    measure "add one artifact of 64 KiB" "$((runs * 2))" --bytes 65536 \
        "greentic-dist, empty cache=$ours pull --cache-dir $work/uncrowded oci://$registry/set:{i}" \
        "greentic-dist, 10 000 entries=$ours pull --cache-dir $work/crowded oci://$registry/set:{i}"
}

delayed() {
    delayed_registry
    set_of "200 x 64 KiB, 20 ms round trip" "$delayed_host"
}

# A connection that ends every 20 to 80 MiB: what had to be sent for the 1 GiB to arrive, whole.
interrupted() {
    [ -n "$ours" ] || { note "skipped: no row of an interrupted pull without greentic-dist"; return 0; }
    local large=$((1024 * mib))
    publish large "$large" 1
    python3 "$here/pull.py" cut --port "${registry##*:}" --report "$work/cuts" >"$work/cut.port" &
    started+=($!)
    local tries path began took sent cuts
    for tries in $(seq 100); do
        [ ! -s "$work/cut.port" ] || break
        sleep 0.1
    done
    [ -s "$work/cut.port" ] || { note "pull.sh: the cutting relay did not start in $tries tries"; exit 1; }
    note "measuring: 1 GiB, cut every 20 to 80 MiB"
    began=$(date +%s%N)
    path=$("$ours" pull -q --cache-dir "$work/cut" "oci://127.0.0.1:$(cat "$work/cut.port")/large:0")
    took=$((($(date +%s%N) - began) / 100000))
    [ "sha256:$(sha256sum <"$path" | cut -d' ' -f1)" = "$(layer_of large)" ] || { note "pull.sh: wrong bytes"; exit 1; }
    sleep 0.5 # the relay writes its report when the last connection has ended
    read -r sent cuts <"$work/cuts"
    printf '| 1 GiB, cut every 20 to 80 MiB | greentic-dist | %s.%s | | %s.%03d × size sent, %s cuts | | %s |\n' \
        $((took / 10)) $((took % 10)) $((sent * 1000 / large / 1000)) $((sent * 1000 / large % 1000)) "$cuts" $((cuts + 2))
    rm -rf "$work/cut"
}

# ---- The table

table_head
! wanted small || cold small "2 MiB, cold" $((2 * mib)) "$runs"
! wanted medium || cold medium "64 MiB, cold" $((64 * mib)) "$runs"
! wanted large || cold large "1 GiB, cold" $((1024 * mib)) "$large_runs"
! wanted set || set_of "200 x 64 KiB" "$registry"
! wanted slowset || delayed
! wanted cached || cached
! wanted resolve || resolve
! wanted tls || tls
! wanted crowded || crowded
! wanted interrupted || interrupted
