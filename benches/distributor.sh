#!/usr/bin/env bash
# What a distributor over a directory costs: questions over one connection, manifests, one large blob with the memory of the
# server, and the calls of a guest. Everything on this machine; about a minute once it is built.
#     benches/distributor.sh [questions, default 5000]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
questions=${1:-5000}
target=${CARGO_TARGET_DIR:-target}

cargo build --quiet --release --locked -p greentic-distributor-client --bin greentic-dist
work=$(mktemp -d)
trap 'kill "${server:-0}" 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir -p "$work/root/components" "$work/root/packs"
head -c 100000 /dev/urandom >"$work/root/components/part-1.2.0.wasm"
truncate -s 1G "$work/root/packs/large-1.0.0.gtpack"

"$target/release/greentic-dist" serve --root "$work/root" >"$work/ready" 2>"$work/log" &
server=$!
until grep -q listening "$work/ready"; do kill -0 "$server"; sleep 0.05; done
url=$(sed 's/listening on //' "$work/ready")

answers=$(cargo bench --quiet --locked -p greentic-distributor-client --bench ask_distributor -- "$url" part 1.2.0 "$questions")
echo "resolve_component, one connection: $answers"

manifest="$url/v2/components/part/manifests/1.2.0"
curl -sf "$manifest" >/dev/null
began=$(date +%s%N)
curl -sf -o /dev/null "$manifest?[1-$questions]"
echo "manifests, one connection: $((questions * 1000000000 / ($(date +%s%N) - began))) a second"

curl -sf "$url/v2/packs/large/manifests/1.0.0" >"$work/manifest"
digest=$(grep -oE '"digest":"sha256:[0-9a-f]{64}"[^}]*"size":1073741824|"size":1073741824[^}]*"digest":"sha256:[0-9a-f]{64}"' "$work/manifest" |
    grep -oE 'sha256:[0-9a-f]{64}')
for _ in 1 2 3; do
    curl -sf -o /dev/null -w 'blob of 1 GiB: %{time_total} s\n' "$url/v2/packs/large/blobs/$digest"
done
echo "memory of the server: $(awk '/^VmHWM/ { print $2, $3 }' "/proc/$server/status") at most"

cargo bench --quiet --locked -p greentic-dist-guest-tests --bench guest_calls -- "$questions" | sed 's/^/guest, /'
