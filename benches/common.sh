# shellcheck shell=bash
# What pull.sh, oci.sh and packs.sh have in common: a registry with its log, its content, and how programs are measured. Sourced by them;
# they set `all_rows` before and have a head that says what can be set.
# shellcheck disable=SC2034 # what is set here is for them
me=$(basename "$0")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$here")
export PATH="$PATH:/usr/sbin:/sbin"

runs=${RUNS:-9}
large_runs=${LARGE_RUNS:-5}
rows=${ROWS:-$all_rows}
ours=${GREENTIC_DIST:-${CARGO_TARGET_DIR:-$top/target}/release/greentic-dist}
floor=${FLOOR:-}
# Smaller, it lets a script be tried in a moment; the titles of the rows then lie.
mib=${MIB:-$((1024 * 1024))}

note() {
    printf '%s\n' "$*" >&2
}

for program in docker-registry skopeo curl python3 sha256sum; do
    command -v "$program" >/dev/null || { note "$me: $program is not installed"; exit 1; }
done
if [ -n "$floor" ] && [ ! -x "$floor" ]; then
    note "$me: FLOOR=$floor is no program"
    exit 1
fi
if [ ! -x "$ours" ]; then
    note "$me: $ours is not built: its lines are left out"
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
    note "$me: $url did not answer after $tries tries"
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

# publish REPOSITORY BYTES COUNT [LAYERS [MEDIA TYPE]]: pushes random artifacts tagged 0, 1, 2…; their digests are then in $work/REPOSITORY
publish() {
    local repository=$1 bytes=$2 count=$3 layers=${4:-1} type=${5:-application/wasm} number
    [ ! -e "$work/$repository" ] || return 0
    note "publishing $count x $bytes bytes as $repository"
    helper layout "$work/layout" --bytes "$bytes" --count "$count" --layers "$layers" --media-type "$type" \
        >"$work/$repository"
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

# TLS ends in nginx, with a certificate of this machine's own address, since loopback is where plain HTTP is allowed.
#
# tls_front "line of its configuration": sets tls_host and starts it; fails when that cannot be.
tls_front() {
    local address
    for program in nginx openssl; do
        command -v "$program" >/dev/null || { note "skipped: no TLS row, $program is not installed"; return 1; }
    done
    address=$(hostname -I 2>/dev/null | tr ' ' '\n' | grep -m1 -E '^[0-9.]+$' || true)
    [ -n "$address" ] || { note "skipped: no TLS row, this machine has no address beside loopback"; return 1; }
    tls_host="$address:$(helper port)"
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
        listen $tls_host ssl http2;
        ssl_certificate $work/tls/server.crt;
        ssl_certificate_key $work/tls/server.key;
        location / {
            proxy_pass http://registry;
            # What a client takes slowly waits in the registry, not in a file that the worker may not write.
            proxy_max_temp_file_size 0;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host \$http_host;
            proxy_set_header X-Forwarded-Proto https;
            $1
        }
    }
}
NGINX
    nginx -e "$work/tls/error.log" -c "$work/tls/nginx.conf" &
    started+=($!)
    await "https://$tls_host/v2/" --cacert "$work/tls/certs/ca.crt"
}

# relay WHAT [ARGUMENTS…]: starts a relay of pull.py before the registry; its address is then in $relay_host
relay() {
    local what=$1 tries
    shift
    python3 "$here/pull.py" "$what" --port "${registry##*:}" "$@" >"$work/$what.port" &
    started+=($!)
    for tries in $(seq 100); do
        [ ! -s "$work/$what.port" ] || break
        sleep 0.1
    done
    [ -s "$work/$what.port" ] || { note "$me: the relay '$what' did not start in $tries tries"; exit 1; }
    relay_host="127.0.0.1:$(cat "$work/$what.port")"
}

# delayed_registry: sets delayed_host, a relay before the registry with a round trip of 20 ms.
delayed_registry() {
    relay delay --round-trip-ms 20
    delayed_host=$relay_host
}

# token_registry: sets token_host, a relay before the registry that wants a token, from itself, with every request. What it
# was asked stands in $token_log.
token_registry() {
    token_log="$work/token.log"
    relay token --log "$token_log"
    token_host=$relay_host
}

# ---- The table

version() {
    "$@" 2>&1 | head -n 1
}

# table_head: the machine, the programs, and the first lines of the table
table_head() {
    cat <<HEAD
$(nproc) x $(awk -F': *' '/^model name/ { print $2; exit }' /proc/cpuinfo), $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), \
$(df --output=fstype "$work" | tail -n 1), kernel $(uname -r); $(version docker-registry --version | awk '{ print $1, $NF }'), \
$(version skopeo --version), $(version curl --version | cut -d' ' -f1-2)${ours:+, $(version "$ours" --version)}; \
medians of $runs runs and more ($large_runs of 1 GiB), in turn.$([ "$mib" = 1048576 ] || printf ' A MiB has %d bytes here: no figures.' "$mib")

| work | program | median ms | best ms | ratio | peak MiB | requests |
|---|---|---|---|---|---|---|
HEAD
}
