#!/usr/bin/env bash
# Everything a change must pass, in the order in which it fails fastest. Each step says its name when it starts and
# its time when it ends. The tests come last, so the output ends with cargo's own summary.
#     ci/local_check.sh            all steps
#     ci/local_check.sh lint docs  only these
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

format() {
    cargo fmt --all --check
}

lint() {
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
}

# The public crate in every shape it is offered in.
features() {
    cargo build -p greentic-distributor-client --no-default-features --locked
    cargo clippy -p greentic-distributor-client --no-default-features --locked -- -D warnings
    local set
    for set in http-runtime dist-client; do
        cargo clippy -p greentic-distributor-client --no-default-features --features "$set" --locked -- -D warnings
    done
    # What published programs ask for, with their calls: `pack-fetch`, `oci-components`; `dist-client,http-runtime`; the
    # default features with `dist-client` and `pack-fetch`; `reqwest`.
    for set in operator,start,dev,component flow runner-host,setup runtime-http,deployer; do
        cargo clippy -p greentic-dist-compat-tests --no-default-features --features "$set" --all-targets --locked -- -D warnings
    done
}

docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features --locked
    ci/docs
}

layers() {
    ci/layers
    ci/file_size
    ci/rows
}

scripts() {
    if command -v shellcheck >/dev/null 2>&1; then
        shellcheck ci/* .ci/run benches/*.sh
    else
        echo "shellcheck is not installed: the scripts are not checked"
    fi
}

licences() {
    if cargo deny --version >/dev/null 2>&1; then
        cargo deny --locked check bans licenses sources
    else
        echo "cargo-deny is not installed: licences and bans are not checked"
    fi
}

# What a guest links must build for a guest.
wasm() {
    if rustc --print target-libdir --target wasm32-wasip2 2>/dev/null | xargs -r test -d; then
        cargo build -p greentic-dist-types --target wasm32-wasip2 --locked
        cargo build -p greentic-distributor-client --no-default-features --target wasm32-wasip2 --locked
    else
        echo "the target wasm32-wasip2 is not installed (rustup target add wasm32-wasip2): the guest build is not checked"
    fi
}

# The crates are packaged together, since none of them needs to be published yet for the others to resolve.
package() {
    local crate
    cargo package --workspace --exclude greentic-dist-testkit --exclude greentic-dist-guest-tests \
        --exclude greentic-dist-guest-probe --exclude greentic-dist-compat-tests --no-verify --allow-dirty --locked
    for crate in greentic-distributor-client greentic-distributor-dev; do
        if cargo package --list -p "$crate" --allow-dirty | grep -E '^(tests|benches|fuzz)/'; then
            echo "the package $crate holds the files above, which its users do not need" >&2
            return 1
        fi
    done
}

tests() {
    ci/test
}

current=
# The tests say themselves what failed, and theirs are the last lines.
name_failed() {
    [ "$1" = 0 ] || [ -z "$current" ] || [ "$current" = tests ] || printf '<== %s: failed\n' "$current" >&2
}
trap 'name_failed $?' EXIT

step() {
    local name=$1 began=$SECONDS
    current=$name
    printf '==> %s\n' "$name"
    # A function called in a condition would lose `set -e`: it runs as a command of its own.
    "$name"
    [ "$name" = tests ] || printf '<== %s: %d s\n' "$name" "$((SECONDS - began))"
}

[ "$#" -gt 0 ] || set -- format layers scripts licences lint features docs wasm package tests
for name in "$@"; do
    if [ "$(type -t "$name")" != function ]; then
        echo "local_check: there is no step $name" >&2
        exit 2
    fi
done
for name in "$@"; do
    [ "$name" != tests ] || printf '==> the steps before the tests took %d s\n' "$SECONDS"
    step "$name"
done
