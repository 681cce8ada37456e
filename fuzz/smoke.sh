#!/usr/bin/env bash
# Runs each fuzz target for a while, beginning with its committed corpus. What it finds is left in fuzz/artifacts, and its name
# is said; a finding becomes a unit test beside the parser.
#
#     fuzz/smoke.sh                    every target for 60 seconds
#     fuzz/smoke.sh manifest link      some of them
#     SECONDS_EACH=600 fuzz/smoke.sh   for longer
#     SANITIZER=none fuzz/smoke.sh     without the address sanitizer; about five times as many inputs
#
# Needs a nightly toolchain (rustup toolchain install nightly) and cargo-fuzz (cargo install cargo-fuzz --locked). Without a
# nightly, and then without the sanitizer, set TOOLCHAIN= to the name of another one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

each=${SECONDS_EACH:-60}
toolchain=${TOOLCHAIN-nightly}
sanitizer=${SANITIZER:-address}
if [ "$toolchain" != nightly ]; then
    export RUSTC_BOOTSTRAP=1
    sanitizer=none
fi
command -v cargo-fuzz >/dev/null || { echo "smoke.sh: cargo-fuzz is not installed (cargo install cargo-fuzz --locked)" >&2; exit 1; }

# The workspace's toolchain file does not know of the nightly.
export RUSTUP_TOOLCHAIN=${toolchain:-$(rustup show active-toolchain | cut -d' ' -f1)}
if [ $# -gt 0 ]; then
    targets=("$@")
else
    mapfile -t targets < <(sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | grep -v greentic)
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=()
for target in "${targets[@]}"; do
    echo "== $target" >&2
    cargo fuzz build -s "$sanitizer" "$target" >&2
    # New inputs go to the first directory; the committed ones are only read.
    mkdir -p "$scratch/$target"
    if ! cargo fuzz run -s "$sanitizer" "$target" "$scratch/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$each" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 >"$scratch/log" 2>&1; then
        tail -n 40 "$scratch/log" >&2
        failed+=("$target")
    fi
    grep -E 'stat::number_of_executed_units|stat::average_exec_per_sec|cov:' "$scratch/log" | tail -n 3 >&2 || true
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "smoke.sh: found something in: ${failed[*]} (see fuzz/artifacts)" >&2
    exit 1
fi
echo "smoke.sh: ${#targets[@]} targets, ${each} s each, nothing found" >&2
