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

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$here")
export PATH="$PATH:/usr/sbin:/sbin"

runs=${RUNS:-9}
large_runs=${LARGE_RUNS:-5}
rows=${ROWS:-small medium large set slowset cached resolve tls crowded interrupted}
ours=${GREENTIC_DIST:-${CARGO_TARGET_DIR:-$top/target}/release/greentic-dist}
floor=${FLOOR:-}
mib=$((1024 * 1024))

note() {
    printf '%s\n' "$*" >&2
}

for program in docker-registry skopeo curl python3 sha256sum; do
    command -v "$program" >/dev/null || { note "pull.sh: $program is not installed"; exit 1; }
done
if [ -n "$floor" ] && [ ! -x "$floor" ]; then
    note "pull.sh: FLOOR=$floor is no program"
    exit 1
fi
if [ ! -x "$ours" ]; then
    note "pull.sh: $ours is not built: its lines are left out"
    ours=
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/greentic-bench.XXXXXX")
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

# The measured programs see no configuration of the person who runs this.
export HOME="$work/home" XDG_CACHE_HOME="$work/home/cache" XDG_CONFIG_HOME="$work/home/config" no_proxy='*'
mkdir -p "$HOME"
unset "${!GREENTIC_@}" DOCKER_CONFIG REGISTRY_AUTH_FILE http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY

helper() {
    python3 "$here/pull.py" "$@"
}

await() {
    local url=$1 tries
    shift
    for tries in $(seq 100); do
        ! curl -fs -o /dev/null "$@" "$url" || return 0
        sleep 0.1
    done
    note "pull.sh: $url did not answer after $tries tries"
    exit 1
}

# ---- The registry, its log and its content

log="$work/registry.log"
registry="127.0.0.1:$(helper port)"
cat >"$work/registry.yml" <<YAML
version: 0.1
log: {level: error, accesslog: {disabled: false}}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "$registry"}
YAML
docker-registry serve "$work/registry.yml" >"$log" 2>&1 &
started+=($!)
await "http://$registry/v2/"

printf '{"default":[{"type":"insecureAcceptAnything"}]}' >"$work/policy.json"
# A string, since it also goes into scripts and into the commands that are measured.
copy="skopeo --policy $work/policy.json copy --quiet"

# publish REPOSITORY BYTES COUNT: pushes random artifacts tagged 0, 1, 2…; their digests are then in $work/REPOSITORY
publish() {
    local repository=$1 bytes=$2 count=$3 number
    [ ! -e "$work/$repository" ] || return 0
    note "publishing $count x $bytes bytes as $repository"
    helper layout "$work/layout" --bytes "$bytes" --count "$count" >"$work/$repository"
    # The first one alone: docker-registry answers 500 when the config that all of them share is written and asked for
    # at the same instant.
    for number in first others; do
        # shellcheck disable=SC2086 # $copy is a command with its arguments
        if [ "$number" = first ]; then echo 0; else seq 1 $((count - 1)); fi |
            xargs -r -P 4 -I{} $copy --retry-times 3 --dest-tls-verify=false \
                "oci:$work/layout:{}" "docker://$registry/$repository:{}"
    done
    rm -rf "$work/layout"
}

pin_of() {
    awk -v number="${2:-0}" '$1 == number { print $2 }' "$work/$1"
}

layer_of() {
    awk -v number="${2:-0}" '$1 == number { print $3 }' "$work/$1"
}

accept='Accept:application/vnd.oci.image.manifest.v1+json'

# ---- Rows

measure() {
    local title=$1 count=$2
    shift 2
    note "measuring: $title"
    helper measure --title "$title" --runs "$count" --work "$work/run" --log "$log" "$@"
}

wanted() {
    [[ " $rows " == *" $1 "* ]]
}

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

# TLS ends in nginx, with a certificate of this machine's own address, since loopback is where plain HTTP is allowed.
tls() {
    local address host url
    for program in nginx openssl; do
        command -v "$program" >/dev/null || { note "skipped: no TLS row, $program is not installed"; return 0; }
    done
    address=$(hostname -I 2>/dev/null | tr ' ' '\n' | grep -m1 -E '^[0-9.]+$' || true)
    [ -n "$address" ] || { note "skipped: no TLS row, this machine has no address beside loopback"; return 0; }
    publish small $((2 * mib)) 1
    host="$address:$(helper port)"
    mkdir -p "$work/tls/certs" "$work/tls/tmp"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=bench" \
        -keyout "$work/tls/ca.key" -out "$work/tls/certs/ca.crt" 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$address" \
        -keyout "$work/tls/server.key" -out "$work/tls/server.csr" 2>/dev/null
    printf 'subjectAltName=IP:%s\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' "$address" >"$work/tls/server.ext"
    openssl x509 -req -in "$work/tls/server.csr" -CA "$work/tls/certs/ca.crt" -CAkey "$work/tls/ca.key" -CAcreateserial \
        -days 2 -extfile "$work/tls/server.ext" -out "$work/tls/server.crt" 2>/dev/null
    cat >"$work/tls/nginx.conf" <<NGINX
daemon off;
pid $work/tls/nginx.pid;
error_log $work/tls/error.log;
worker_processes 1;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path $work/tls/tmp;
    proxy_temp_path $work/tls/tmp;
    fastcgi_temp_path $work/tls/tmp;
    uwsgi_temp_path $work/tls/tmp;
    scgi_temp_path $work/tls/tmp;
    upstream registry { server $registry; keepalive 32; }
    server {
        listen $host ssl http2;
        ssl_certificate $work/tls/server.crt;
        ssl_certificate_key $work/tls/server.key;
        location / {
            proxy_pass http://registry;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host \$http_host;
            proxy_set_header X-Forwarded-Proto https;
        }
    }
}
NGINX
    nginx -e "$work/tls/error.log" -c "$work/tls/nginx.conf" &
    started+=($!)
    url="https://$host/v2/small"
    await "https://$host/v2/" --cacert "$work/tls/certs/ca.crt"
    ours "pull --cache-dir {out} oci://$host/small:0"
    SSL_CERT_FILE="$work/tls/certs/ca.crt" measure "2 MiB over TLS" "$runs" --bytes $((2 * mib)) "${with_ours[@]}" \
        "curl=curl -fs --cacert $work/tls/certs/ca.crt -H $accept $url/manifests/0 -o $work/manifest --next -fs --cacert $work/tls/certs/ca.crt $url/blobs/$(layer_of small) -o {out}" \
        "skopeo=$copy --src-cert-dir $work/tls/certs docker://$host/small:0 dir:{out}"
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
    helper delay --port "${registry##*:}" --round-trip-ms 20 >"$work/delay.port" &
    started+=($!)
    local tries
    for tries in $(seq 100); do
        [ ! -s "$work/delay.port" ] || break
        sleep 0.1
    done
    [ -s "$work/delay.port" ] || { note "pull.sh: the delaying relay did not start in $tries tries"; exit 1; }
    set_of "200 x 64 KiB, 20 ms round trip" "127.0.0.1:$(cat "$work/delay.port")"
}

# A connection that ends every 20 to 80 MiB: what had to be sent for the 1 GiB to arrive, whole.
interrupted() {
    [ -n "$ours" ] || { note "skipped: no row of an interrupted pull without greentic-dist"; return 0; }
    local large=$((1024 * mib))
    publish large "$large" 1
    helper cut --port "${registry##*:}" --report "$work/cuts" >"$work/cut.port" &
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

version() {
    "$@" 2>&1 | head -n 1
}

cat <<HEAD
$(nproc) x $(awk -F': *' '/^model name/ { print $2; exit }' /proc/cpuinfo), $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), \
$(df --output=fstype "$work" | tail -n 1), kernel $(uname -r); $(version docker-registry --version | awk '{ print $1, $NF }'), \
$(version skopeo --version), $(version curl --version | cut -d' ' -f1-2)${ours:+, $(version "$ours" --version)}; \
medians of $runs runs and more ($large_runs of 1 GiB), in turn.

| work | program | median ms | best ms | ratio | peak MiB | requests |
|---|---|---|---|---|---|---|
HEAD
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
