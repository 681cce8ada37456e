#!/usr/bin/env bash
# Measures greentic-dist next to oci-client 0.18 and skopeo at what an OCI client does, all with one docker-registry on
# loopback, in one run. Prints a Markdown table; everything it makes is in one temporary directory that is gone afterwards.
#
#     cargo build --release --bin greentic-dist
#     cargo build --release --manifest-path benches/peers/Cargo.toml
#     benches/oci.sh
#
#     GREENTIC_DIST=path     the program to measure (target/release/greentic-dist)
#     PEER=path              the peer made of oci-client (benches/peers/target/release/oci-client-peer)
#     RUNS=9 LARGE_RUNS=3    timed runs of each program, and of the rows of 640 MiB and more; medians are printed
#     ROWS="…"               some of: small three token unchanged moved pinned layers large set slowset smallpush push ranges (all of them)
#     MIB=1024               bytes of a MiB: tries the script in a moment, and its figures mean nothing
#     TMPDIR=path            needs about 8 GiB
#
# How the runs are made comparable is said in pull.sh; ratios are to oci-client. The peers sync nothing to the disk.
# greentic-dist keeps what it pulls in its cache, and copies several layers into an OCI layout, ten at a time (its default is 4) as its
# peers do; skopeo writes a directory, oci-client files. With TMPDIR on a tmpfs a sync costs nothing, which shows what it costs
# elsewhere. The column of requests is that of one run, all of its methods. `token` is behind a relay that wants a bearer
# token with every request. `unchanged` asks what a tag means that was pulled before, `pinned` pulls by digest what was pulled
# before: the peers keep nothing and fetch it again. `set` is one process of greentic-dist and of oci-client with 32 at once each, and 8 of skopeo at a time.
# `ranges` is over TLS, from nginx that gives each connection 32 MiB a second, at an address that is not loopback.
set -euo pipefail

all_rows="small three token unchanged moved pinned layers large set slowset smallpush push ranges"
LARGE_RUNS=${LARGE_RUNS:-3}
# shellcheck source=benches/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

peer=${PEER:-${CARGO_TARGET_DIR:-$here/peers/target}/release/oci-client-peer}
[ -n "$ours" ] || { note "oci.sh: there is nothing to measure"; exit 1; }
[ -x "$peer" ] || { note "oci.sh: $peer is not built"; exit 1; }

# one TITLE RUNS BYTES REPOSITORY: a pull of one artifact with one layer
one() {
    local title=$1 count=$2 bytes=$3 repository=$4
    publish "$repository" "$bytes" 1
    measure "$title" "$count" --base oci-client --bytes "$bytes" \
        "greentic-dist=$ours pull --cache-dir {out} oci://$registry/$repository:0" \
        "oci-client=$peer pull $registry/$repository:0 {out}" \
        "skopeo=$copy --src-tls-verify=false docker://$registry/$repository:0 dir:{out}"
}

token() {
    token_registry
    publish small $((2 * mib)) 1
    local log=$token_log
    measure "2 MiB, one layer, with a bearer token" "$runs" --base oci-client --bytes $((2 * mib)) \
        "greentic-dist=$ours pull --cache-dir {out} oci://$token_host/small:0" \
        "oci-client=$peer pull $token_host/small:0 {out}" \
        "skopeo=$copy --src-tls-verify=false docker://$token_host/small:0 dir:{out}"
}

# Pulled into $work/kept once, before anything is measured.
kept() {
    publish small $((2 * mib)) 1
    "$ours" pull --cache-dir "$work/kept" "oci://$registry/small:0" >/dev/null 2>&1
}

unchanged() {
    kept
    measure "what a tag means, pulled before" "$((runs * 3))" --base oci-client \
        "greentic-dist=$ours resolve --cache-dir $work/kept oci://$registry/small:0" \
        "oci-client=$peer digest $registry/small:0" \
        "skopeo=skopeo --policy $work/policy.json inspect --raw --tls-verify=false docker://$registry/small:0"
}

# Every run has a tag of its own, resolved when it meant the artifact 0; now it means 1.
moved() {
    local number tags
    publish moved $((2 * mib)) 2
    # Each of three programs runs as often as is timed, and twice more.
    tags=$(seq 0 $((3 * (runs * 3 + 2) - 1)))
    for number in 0 1; do
        curl -fs -H "$accept" -o "$work/moved.$number" "http://$registry/v2/moved/manifests/$number"
    done
    for number in $tags; do
        curl -fs -X PUT -H "Content-Type:${accept#*:}" --data-binary "@$work/moved.0" "http://$registry/v2/moved/manifests/t$number"
        "$ours" resolve --cache-dir "$work/kept" "oci://$registry/moved:t$number" >/dev/null 2>&1
        curl -fs -X PUT -H "Content-Type:${accept#*:}" --data-binary "@$work/moved.1" "http://$registry/v2/moved/manifests/t$number"
    done
    measure "what a tag means that was moved" "$((runs * 3))" --base oci-client \
        "greentic-dist=$ours resolve --cache-dir $work/kept oci://$registry/moved:t{i}" \
        "oci-client=$peer digest $registry/moved:t{i}" \
        "skopeo=skopeo --policy $work/policy.json inspect --raw --tls-verify=false docker://$registry/moved:t{i}"
}

pinned() {
    local reference
    kept
    reference="$registry/small@$(pin_of small)"
    measure "2 MiB by digest, pulled before" "$((runs * 3))" --base oci-client \
        "greentic-dist=$ours pull --cache-dir $work/kept oci://$reference" \
        "oci-client=$peer pull $reference {out}" \
        "skopeo=$copy --src-tls-verify=false docker://$reference dir:{out}"
}

# several TITLE RUNS REPOSITORY LAYERS BYTES: a copy of one artifact with several layers, everything of it, into an OCI layout
several() {
    local title=$1 count=$2 repository=$3 layers=$4 bytes=$5
    publish "$repository" "$bytes" 1 "$layers"
    measure "$title" "$count" --base oci-client --bytes $((layers * bytes)) \
        "greentic-dist=$ours copy --no-referrers --jobs 10 $registry/$repository:0 oci-layout:{out}" \
        "oci-client=$peer pull $registry/$repository:0 {out}" \
        "skopeo=$copy --src-tls-verify=false docker://$registry/$repository:0 dir:{out}"
}

# many TITLE HOST: 200 artifacts of 64 KiB
many() {
    local title=$1 host=$2 references
    publish set $((64 * 1024)) 200
    references=$(seq 0 199 | sed "s,^,$host/set:," | tr '\n' ' ')
    printf '#!/bin/sh\nseq 0 199 | xargs -P 8 -I{} %s --src-tls-verify=false docker://%s/set:{} dir:%s/{}\n' \
        "$copy" "$host" "$work/run/out" >"$work/set.skopeo"
    chmod +x "$work/set.skopeo"
    measure "$title" "$runs" --base oci-client --directory --bytes $((200 * 64 * 1024)) \
        "greentic-dist=$ours pull --cache-dir {out} $references" \
        "oci-client=$peer set {out} 32 $references" \
        "skopeo x 8=$work/set.skopeo"
}

# push TITLE RUNS BYTES REPOSITORY: every run pushes to a repository that is not there yet, so that nothing can be left out. curl sends the
# one large blob and nothing else, and hashes nothing: what the registry itself takes.
push() {
    local title=$1 count=$2 size=$3 repository=$4 digest blob
    helper wasm "$work/push.wasm" --bytes "$size"
    # skopeo takes an image layout. It remembers which repositories have a blob and would mount it: that memory is taken away.
    helper layout "$work/push.layout" --bytes "$size" >"$work/push"
    digest=$(layer_of push)
    blob="$work/push.layout/blobs/sha256/${digest#*:}"
    # shellcheck disable=SC2016 # those are for the script that is written
    printf '#!/bin/sh\nrm -rf "$HOME/.local/share/containers"\nexec env _CONTAINERS_ROOTLESS_UID=1000 XDG_DATA_HOME="$HOME/.local/share" %s --dest-tls-verify=false oci:%s:0 "docker://%s/$1:1"\n' \
        "$copy" "$work/push.layout" "$registry" >"$work/push.skopeo"
    # shellcheck disable=SC2016 # the same
    printf '#!/bin/sh\nurl=$(curl -fsS -X POST -o /dev/null -w "%%header{location}" "http://%s/v2/$1/blobs/uploads/")\nexec curl -fsS -T "%s" "$url&digest=%s"\n' \
        "$registry" "$blob" "$digest" >"$work/push.curl"
    chmod +x "$work/push.skopeo" "$work/push.curl"
    measure "$title" "$count" --base oci-client --bytes "$size" \
        "greentic-dist=$ours push $work/push.wasm $registry/$repository{i}:1" \
        "greentic-dist --assume-missing=$ours push --assume-missing $work/push.wasm $registry/$repository{i}:1" \
        "oci-client=$peer push $registry/$repository{i}:1 $blob" \
        "skopeo=$work/push.skopeo $repository{i}" \
        "curl, the blob alone=$work/push.curl $repository{i}"
    rm -rf "$work/push.wasm" "$work/push.layout"
}

ranges() {
    local size=$((256 * mib)) reference
    tls_front "limit_rate 32m;" || return 0
    publish ranges "$size" 1
    reference="$tls_host/ranges:0"
    SSL_CERT_FILE="$work/tls/certs/ca.crt" PEER_CA="$work/tls/certs/ca.crt" \
        measure "256 MiB over TLS, 32 MiB/s for each connection" "$large_runs" --base oci-client --bytes "$size" \
        "greentic-dist=$ours pull --cache-dir {out} oci://$reference" \
        "oci-client=$peer pull $reference {out}" \
        "skopeo=$copy --src-cert-dir $work/tls/certs docker://$reference dir:{out}"
}

table_head
! wanted small || one "2 MiB, one layer" "$runs" $((2 * mib)) small
! wanted three || several "3 layers of 2 MiB and a config" "$runs" three 3 $((2 * mib))
! wanted token || token
! wanted unchanged || unchanged
! wanted moved || moved
! wanted pinned || pinned
! wanted layers || several "10 layers of 64 MiB" "$large_runs" layers 10 $((64 * mib))
! wanted large || one "1 GiB, one layer" "$large_runs" $((1024 * mib)) large
! wanted set || many "200 x 64 KiB" "$registry"
if wanted slowset; then
    delayed_registry
    many "200 x 64 KiB, 20 ms round trip" "$delayed_host"
fi
! wanted smallpush || push "2 MiB, push" "$runs" $((2 * mib)) smallpush
! wanted push || push "1 GiB, push" "$large_runs" $((1024 * mib)) push
! wanted ranges || ranges
