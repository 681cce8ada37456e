"""The parts of cache.sh that are not commands: large caches, written as the program writes them. Standard library only."""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

MODE_DIR, MODE_FILE, MODE_ARTIFACT = 0o700, 0o600, 0o444


def write(path, data, mode):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        out.write(data)
    os.chmod(path, mode)


def entry(root, number, at, size):
    """One entry as the program publishes it for a file; returns its digest."""
    data = (b"%016d" % number) * (size // 16)
    hexed = hashlib.sha256(data).hexdigest()
    digest, directory = f"sha256:{hexed}", root / hexed
    directory.mkdir(mode=MODE_DIR)
    raw = f"/srv/artifacts/component-{number}.wasm"
    source = {"raw_ref": raw, "canonical_ref": f"file://{raw}@{digest}", "source_kind": "File", "authoritative": False}
    record = {
        "format_version": 1, "cache_key": digest, "digest": digest, "media_type": "application/wasm",
        "size_bytes": len(data), "artifact_type": "Component", "source_kind": "File", "raw_ref": raw,
        "canonical_ref": source["canonical_ref"], "fetched_at": at, "last_accessed_at": at, "last_verified_at": None,
        "state": "Ready", "advisory_epoch": None, "signature_summary": None,
        "local_path": str(directory / "component.wasm"), "source_snapshot": source, "content_digest": digest,
        "manifest_digest": None, "index_digest": None, "component_id": f"component-{number}", "abi_version": None,
        "describe_artifact_ref": None, "content_type": "application/wasm", "created_at": None, "resolved_via": "File",
        "annotations": {}, "signature_refs": [], "sbom_refs": [],
    }
    write(directory / "component.wasm", data, MODE_ARTIFACT)
    write(directory / "entry.json", json.dumps(record, indent=2).encode() + b"\n", MODE_FILE)
    os.utime(directory / "entry.json", (at, at))
    return digest


def fill(args):
    """A cache of `count` entries, used one after the other, and `bundles` of them staged; prints the digests."""
    root = Path(args.root)
    root.mkdir(mode=MODE_DIR)
    (root / "bundles").mkdir(mode=MODE_DIR)
    began = int(time.time()) - args.count - 3600
    for number in range(args.count):
        digest = entry(root, number, began + number, args.bytes)
        print(digest)
        if number < args.bundles:
            record = {"format_version": 1, "bundle_id": f"bundle:{digest}", "cache_key": digest, "canonical_ref": "x",
                      "source_kind": "File", "fetched_at": began + number,
                      "lifecycle_state": "Inactive" if number % 2 else "Staged"}
            name = f"bundle__{digest.replace(':', '__')}.json"
            write(root / "bundles" / name, json.dumps(record, indent=2).encode() + b"\n", MODE_FILE)


def once(command, env):
    """Runs a command; its milliseconds, those of processor time, and its peak memory in MiB."""
    with open(os.devnull, "wb") as nothing:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=nothing, stderr=subprocess.PIPE, env=env)
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        took = (time.perf_counter() - began) * 1000
    if status != 0:
        sys.exit(f"{' '.join(command)} failed: {errors.decode(errors='replace')}")
    return took, (usage.ru_utime + usage.ru_stime) * 1000, usage.ru_maxrss / 1024


def measure(args):
    """Runs a command several times, and prints a row of the table. `{n}` in it is the number of the run."""
    env = {**os.environ, **dict(pair.split("=", 1) for pair in args.env)}
    runs = [once([part.replace("{n}", str(number)) for part in args.command], env) for number in range(args.runs)]
    times, cpu, peaks = zip(*runs)
    figures = f"{statistics.median(times):.1f} | {min(times):.1f} | {statistics.median(cpu):.1f} | {max(peaks):.0f}"
    print(f"| {args.title} | {figures} | {args.budget} |", flush=True)


def artifacts(args):
    """Files to add, one for each run."""
    root = Path(args.root)
    root.mkdir()
    for number in range(args.count):
        (root / f"{number}.wasm").write_bytes(os.urandom(args.bytes))


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("fill")
    command.add_argument("root")
    command.add_argument("--count", type=int, required=True)
    command.add_argument("--bundles", type=int, default=0)
    command.add_argument("--bytes", type=int, default=64)
    command.set_defaults(run=fill)
    command = commands.add_parser("artifacts")
    command.add_argument("root")
    command.add_argument("--count", type=int, required=True)
    command.add_argument("--bytes", type=int, default=64 << 10)
    command.set_defaults(run=artifacts)
    command = commands.add_parser("measure")
    command.add_argument("--title", required=True)
    command.add_argument("--budget", required=True)
    command.add_argument("--runs", type=int, required=True)
    command.add_argument("--env", action="append", default=[])
    command.add_argument("command", nargs="+")
    command.set_defaults(run=measure)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
