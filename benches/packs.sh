#!/usr/bin/env bash
# Measures what hosts do with packs, components and provider catalogs, next to skopeo, all with one docker-registry on
# loopback, in one run. Prints a Markdown table; everything it makes is in one temporary directory that is gone afterwards.
#
#     cargo build --release --bin greentic-dist && benches/packs.sh
#
#     GREENTIC_DIST=path     the program to measure (target/release/greentic-dist)
#     RUNS=9 LARGE_RUNS=3    timed runs of each program, and of the 1 GiB row; medians are printed
#     ROWS="…"               some of: pack large components again kept unchanged (all of them)
#     MIB=1024               bytes of a MiB: tries the script in a moment, and its figures mean nothing
#     TMPDIR=path            needs about 6 GiB
#
# How the runs are made comparable is said in pull.sh; ratios are to skopeo, which syncs nothing to the disk and keeps nothing.
# `components` brings the 64 components that a pack manifest names, over a relay with a round trip of 20 ms: one process of
# greentic-dist, and 8 of skopeo at a time. `again` opens all of them from the cache. `kept` opens a pack of 64 MiB by its
# digest. `unchanged` asks whether a catalog is still the newest.
set -euo pipefail

all_rows="pack large components again kept unchanged"
LARGE_RUNS=${LARGE_RUNS:-3}
# shellcheck source=benches/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ -n "$ours" ] || { note "packs.sh: there is nothing to measure"; exit 1; }
pack_type=application/vnd.greentic.gtpack.v1+zip

# one TITLE RUNS BYTES REPOSITORY: a pull of one pack
one() {
    local title=$1 count=$2 bytes=$3 repository=$4
    publish "$repository" "$bytes" 1 1 "$pack_type"
    measure "$title" "$count" --base skopeo --bytes "$bytes" \
        "greentic-dist=$ours pack --cache-dir {out} $registry/$repository@$(pin_of "$repository")" \
        "skopeo=$copy --src-tls-verify=false docker://$registry/$repository@$(pin_of "$repository") dir:{out}"
}

# Writes the pack manifest that names the components, at HOST, into FILE.
names() {
    local host=$1 file=$2 references
    references=$(awk -v host="$host" '{ printf "%s\"%s/parts@%s\"", separator, host, $2; separator = "," }' "$work/parts")
    printf '{"extensions":{"greentic.components":{"refs":[%s]}}}' "$references" >"$file"
}

components() {
    publish parts $((64 * 1024)) 64
    delayed_registry
    names "$delayed_host" "$work/parts.json"
    printf '#!/bin/sh\nseq 0 63 | xargs -P 8 -I{} %s --src-tls-verify=false docker://%s/parts:{} dir:%s/{}\n' \
        "$copy" "$delayed_host" "$work/run/out" >"$work/parts.skopeo"
    chmod +x "$work/parts.skopeo"
    measure "64 components of 64 KiB, 20 ms round trip" "$runs" --base skopeo --directory --bytes $((64 * 64 * 1024)) \
        "greentic-dist=$ours components fetch --cache-dir {out} $work/parts.json" \
        "skopeo x 8=$work/parts.skopeo"
}

# What is measured below is in the cache before.
again() {
    publish parts $((64 * 1024)) 64
    names "$registry" "$work/near.json"
    "$ours" components fetch --cache-dir "$work/kept.parts" "$work/near.json" >/dev/null 2>&1
    measure "64 components again" "$((runs * 3))" --base greentic-dist \
        "greentic-dist=$ours components fetch --cache-dir $work/kept.parts $work/near.json"
}

kept() {
    local reference
    publish pack $((64 * mib)) 1 1 "$pack_type"
    reference="$registry/pack@$(pin_of pack)"
    "$ours" pack --cache-dir "$work/kept.packs" "$reference" >/dev/null 2>&1
    measure "64 MiB pack again, by digest" "$((runs * 3))" --base skopeo \
        "greentic-dist=$ours pack --cache-dir $work/kept.packs $reference" \
        "skopeo=$copy --src-tls-verify=false docker://$reference dir:{out}" \
        "true, an empty program=true"
}

unchanged() {
    local reference="oci://$registry/providers:latest"
    mkdir -p "$work/bundle"
    printf '{"registry_version":"providers@1","items":[%s{"id":"last","label":{"fallback":"Last"},"ref":"oci://%s/last:1"}]}' \
        "$(seq 100 | sed "s,.*,{\"id\":\"provider-&\"\,\"label\":{\"fallback\":\"Provider &\"}\,\"ref\":\"oci://$registry/provider-&:1\"}\,,")" \
        "$registry" | tr -d '\n' >"$work/catalog.json"
    "$ours" push --type catalog "$work/catalog.json" "$registry/providers:latest" >/dev/null 2>&1
    "$ours" catalog update --bundle "$work/bundle" "$reference" >/dev/null 2>&1
    measure "a catalog that has not changed, refreshed" "$((runs * 3))" --base skopeo \
        "greentic-dist=$ours catalog update --bundle $work/bundle $reference" \
        "skopeo=$copy --src-tls-verify=false docker://$registry/providers:latest dir:{out}"
    measure "a cached catalog, resolved offline" "$((runs * 3))" --base greentic-dist \
        "greentic-dist=$ours catalog resolve --offline --bundle $work/bundle $reference"
}

table_head
! wanted pack || one "pack of 64 MiB" "$runs" $((64 * mib)) pack
! wanted large || one "pack of 1 GiB" "$LARGE_RUNS" $((1024 * mib)) large
! wanted components || components
! wanted again || again
! wanted kept || kept
! wanted unchanged || unchanged
