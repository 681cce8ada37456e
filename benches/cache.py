"""The parts of cache.sh that are not commands: large caches, written as the program writes them. Standard library only."""

import argparse
import hashlib
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODE_DIR, MODE_FILE, MODE_ARTIFACT = 0o700, 0o600, 0o444


def write(path, data, mode):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        out.write(data)
    os.chmod(path, mode)


def manifest_of(hexed, size):
    """A manifest of one layer, as tools for components push it."""
    config = {"mediaType": "application/vnd.wasm.config.v0+json", "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}", "size": 2}
    layer = {"mediaType": "application/wasm", "digest": f"sha256:{hexed}", "size": size}
    kind = "application/vnd.oci.image.manifest.v1+json"
    return json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]}).encode()


def entry(root, number, at, size):
    """One entry as the program publishes it, every other one as of a file and of a registry; returns its digest."""
    data = (b"%016d" % number) * (size // 16)
    content = hashlib.sha256(data).hexdigest()
    manifest = manifest_of(content, size) if number % 2 else None
    pin = hashlib.sha256(manifest).hexdigest() if manifest else content
    digest, directory = f"sha256:{pin}", root / pin
    directory.mkdir(mode=MODE_DIR)
    kind, raw = ("Oci", f"oci://registry.example/acme/component-{number}:1") if manifest else (
        "File", f"/srv/artifacts/component-{number}.wasm")
    canonical = f"oci://registry.example/acme/component-{number}@{digest}" if manifest else f"file://{raw}@{digest}"
    source = {"raw_ref": raw, "canonical_ref": canonical, "source_kind": kind, "authoritative": False}
    record = {
        "format_version": 1, "cache_key": digest, "digest": digest, "media_type": "application/wasm",
        "size_bytes": len(data), "artifact_type": "Component", "source_kind": kind, "raw_ref": raw,
        "canonical_ref": canonical, "fetched_at": at, "last_accessed_at": at, "last_verified_at": None,
        "state": "Ready", "advisory_epoch": None, "signature_summary": None,
        "local_path": str(directory / "component.wasm"), "source_snapshot": source, "content_digest": f"sha256:{content}",
        "manifest_digest": digest if manifest else None, "index_digest": None, "component_id": f"component-{number}",
        "abi_version": None, "describe_artifact_ref": None, "content_type": "application/wasm", "created_at": None,
        "resolved_via": "TagResolution" if manifest else "File", "annotations": {}, "signature_refs": [], "sbom_refs": [],
    }
    write(directory / "component.wasm", data, MODE_ARTIFACT)
    if manifest:
        write(directory / "manifest.json", manifest, MODE_FILE)
        write(root / "refs" / "by-content" / f"sha256-{content}", f"{digest}\n".encode(), MODE_FILE)
    write(directory / "entry.json", json.dumps(record, indent=2).encode() + b"\n", MODE_FILE)
    os.utime(directory / "entry.json", (at, at))
    return digest


def fill(args):
    """A cache of `count` entries, used one after the other, and `bundles` of them staged; prints the digests."""
    root = Path(args.root)
    for directory in [root, root / "bundles", root / "refs", root / "refs" / "by-content"]:
        directory.mkdir(mode=MODE_DIR)
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


def components(args):
    """A directory of components for `greentic-dist serve`."""
    root = Path(args.root)
    (root / "components").mkdir(parents=True)
    for number in range(args.count):
        (root / "components" / f"c{number}-1.0.0.wasm").write_bytes(os.urandom(args.bytes))


def lock(args):
    """A lock file that names `count` components on a host."""
    references = [f"oci://{args.host}/components/c{number}:1.0.0" for number in range(args.count)]
    Path(args.path).write_text(json.dumps(references))


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


def filled(command, number):
    """A command for a run: `{n}` is the number of the run, `{line:FILE}` that line of a file."""
    def line(path):
        return Path(path).read_text().splitlines()[number]
    return [re.sub(r"\{line:([^}]+)\}", lambda found: line(found[1]), part).replace("{n}", str(number)) for part in command]


def row(title, runs, budget):
    times, cpu, peaks = zip(*runs)
    figures = f"{statistics.median(times):.1f} | {min(times):.1f} | {statistics.median(cpu):.1f} | {max(peaks):.0f}"
    print(f"| {title} | {figures} | {budget} |", flush=True)


def measure(args):
    """Runs a command several times, and prints a row of the table."""
    env = {**os.environ, **dict(pair.split("=", 1) for pair in args.env)}
    row(args.title, [once(filled(args.command, number), env) for number in range(args.runs)], args.budget)


def beside(args):
    """Runs a command again and again while another one works, and prints a row of it, and one with the slowest."""
    log = tempfile.TemporaryFile()
    worker = subprocess.Popen(shlex.split(args.work), stdout=log, stderr=log)
    runs = []
    while worker.poll() is None and len(runs) < args.runs:
        runs.append(once(filled(args.command, len(runs)), None))
    if worker.wait() != 0 or not runs:
        log.seek(0)
        sys.exit(f"{args.work} failed, or ended at once: {log.read().decode(errors='replace')}")
    row(args.title, runs, "")
    row(f"the slowest of those {len(runs)}", [max(runs)], args.budget)


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
    command = commands.add_parser("components")
    command.add_argument("root")
    command.add_argument("--count", type=int, required=True)
    command.add_argument("--bytes", type=int, default=64 << 10)
    command.set_defaults(run=components)
    command = commands.add_parser("lock")
    command.add_argument("path")
    command.add_argument("--count", type=int, required=True)
    command.add_argument("--host", required=True)
    command.set_defaults(run=lock)
    command = commands.add_parser("beside")
    command.add_argument("--title", required=True)
    command.add_argument("--budget", required=True)
    command.add_argument("--runs", type=int, required=True)
    command.add_argument("--work", required=True)
    command.add_argument("command", nargs="+")
    command.set_defaults(run=beside)
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
