"""The parts of pull.sh, oci.sh and packs.sh that are not commands: artifacts, measurements, a delay. Python's standard library only."""

import argparse
import asyncio
import hashlib
import json
import os
import random
import re
import shlex
import shutil
import statistics
import sys
import time
from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CHUNK = 1 << 20


def write_blob(directory, chunks):
    """Writes the chunks as a blob named by its digest; returns (hex digest, size)."""
    directory.mkdir(parents=True, exist_ok=True)
    part, hasher, size = directory / "part", hashlib.sha256(), 0
    with open(part, "wb") as out:
        for chunk in chunks:
            out.write(chunk)
            hasher.update(chunk)
            size += len(chunk)
    part.rename(directory / hasher.hexdigest())
    return hasher.hexdigest(), size


def random_chunks(size):
    while size > 0:
        chunk = os.urandom(min(size, CHUNK))
        size -= len(chunk)
        yield chunk


def manifest_of(layers, config, config_size, media_type="application/wasm"):
    return json.dumps({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": f"sha256:{config}", "size": config_size},
        "layers": [{"mediaType": media_type, "digest": f"sha256:{layer}", "size": size} for layer, size in layers],
    }, separators=(",", ":")).encode()


def layout(args):
    """An OCI image layout with `count` artifacts of random bytes, named 0, 1, 2…; prints their digests, and of the layers
    that of the first."""
    root = Path(args.directory)
    blobs = root / "blobs" / "sha256"
    config, config_size = write_blob(blobs, [b'{"architecture":"wasm","os":"wasip2"}'])
    entries = []
    for number in range(args.count):
        layers = [write_blob(blobs, random_chunks(args.bytes)) for _ in range(args.layers)]
        digest, size = write_blob(blobs, [manifest_of(layers, config, config_size, args.media_type)])
        entries.append({"mediaType": MANIFEST, "digest": f"sha256:{digest}", "size": size,
                        "annotations": {"org.opencontainers.image.ref.name": str(number)}})
        print(f"{number} sha256:{digest} sha256:{layers[0][0]}")
    (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))


def entries(args):
    """Cache entries in the layout of docs/cache-layout.md, as many pulls would have left them."""
    root = Path(args.directory)
    config = hashlib.sha256(b"config").hexdigest()
    for number in range(args.count):
        blob = b"\0asm\x0d\0\x01\0" + number.to_bytes(8, "big") + bytes(1008)
        layer = hashlib.sha256(blob).hexdigest()
        manifest = manifest_of([(layer, len(blob))], config, 6)
        pin = hashlib.sha256(manifest).hexdigest()
        directory = root / pin
        directory.mkdir(parents=True, mode=0o700)
        reference = f"oci://127.0.0.1:5000/filler@sha256:{pin}"
        record = {
            "format_version": 1, "cache_key": f"sha256:{pin}", "digest": f"sha256:{pin}",
            "media_type": "application/wasm", "size_bytes": len(blob), "artifact_type": "Component",
            "source_kind": "Oci", "raw_ref": reference, "canonical_ref": reference,
            "fetched_at": 1790000000, "last_accessed_at": 1790000000, "last_verified_at": 1790000000,
            "state": "Ready", "advisory_epoch": None, "signature_summary": None,
            "local_path": str(directory / "component.wasm"),
            "source_snapshot": {"raw_ref": reference, "canonical_ref": reference, "source_kind": "Oci", "authoritative": True},
            "content_digest": f"sha256:{layer}", "manifest_digest": f"sha256:{pin}",
        }
        for name, data, mode in [("component.wasm", blob, 0o444), ("manifest.json", manifest, 0o600),
                                 ("entry.json", json.dumps(record, indent=2).encode(), 0o600)]:
            with open(os.open(directory / name, os.O_CREAT | os.O_WRONLY, mode), "wb") as out:
                out.write(data)
    root.chmod(0o700)


def requests_in(log):
    """Requests in an access log of docker-registry, or of the relay that wants tokens."""
    try:
        with open(log, encoding="utf-8", errors="replace") as lines:
            return sum(1 for line in lines if re.search('"(GET|HEAD|POST|PATCH|PUT|DELETE) /(v2/|token)', line))
    except OSError:
        return 0


class Program:
    """One command of a comparison. {out} is a path that is fresh for each run, {i} the number of the run."""

    def __init__(self, name, template):
        self.name, self.template = name, template
        self.seconds, self.requests, self.peak_kib = [], None, 0

    def arguments(self, out, number):
        return [part.replace("{out}", str(out)).replace("{i}", str(number)) for part in shlex.split(self.template)]

    def spawn(self, out, number, log):
        arguments = self.arguments(out, number)
        actions = [(os.POSIX_SPAWN_OPEN, fd, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) for fd in (1, 2)]
        began = time.perf_counter()
        return os.posix_spawnp(arguments[0], arguments, os.environ, file_actions=actions), began

    def check(self, status, log):
        if status != 0:
            text = Path(log).read_text(errors="replace")[-2000:]
            sys.exit(f"pull.py: {self.name} failed with status {status}:\n  {self.template}\n{text}")

    def timed(self, out, number, log):
        pid, began = self.spawn(out, number, log)
        _, status = os.waitpid(pid, 0)
        seconds = time.perf_counter() - began
        self.check(status, log)
        return seconds

    def watched(self, out, number, log):
        """One run whose peak resident memory is read from the kernel's own high-water marks until it ends."""
        pid, _ = self.spawn(out, number, log)
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self.check(status, log)
                return
            self.peak_kib = max(self.peak_kib, *map(high_water_kib, with_descendants(pid)))
            time.sleep(0.001)


def with_descendants(pid):
    """The process and those it started; a script is as large as the largest program it runs."""
    found = [pid]
    for one in found:
        try:
            found.extend(Path(f"/proc/{one}/task/{one}/children").read_text(encoding="ascii").split())
        except OSError:
            pass
    return found


def high_water_kib(pid):
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as fields:
            return next((int(field.split()[1]) for field in fields if field.startswith("VmHWM:")), 0)
    except OSError:
        return 0


def same_page_cache(directory, size):
    """Leaves the page cache as it was before every other run: nothing dirty, as many pages free to take."""
    filler = directory / "filler"
    with open(filler, "wb") as out:
        left = size
        while left > 0:
            left -= out.write(bytes(min(left, CHUNK)))
    filler.unlink()
    os.sync()


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()


def measure(args):
    """Runs the programs in turn, A B A B, and prints one table row each: median, ratio, peak memory, requests."""
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    log, out = str(work / "output"), work / "out"
    programs = [Program(*text.split("=", 1)) for text in args.programs]
    number = args.first

    old = work / "old"

    def run(program, how):
        nonlocal number
        # Many small files that were just deleted slow down whoever makes the next ones (ext4 without a journal looks past
        # each of them), so those are put aside until the row is done.
        if args.directory and out.exists():
            old.mkdir(exist_ok=True)
            out.rename(old / str(number))
        remove(out)
        if args.directory:
            out.mkdir()
        same_page_cache(work, args.bytes)
        result = how(out, number, log)
        number += 1
        return result

    for program in programs:
        before = requests_in(args.log)
        run(program, program.watched)
        time.sleep(0.3)  # the registry writes its log after its answer
        program.requests = requests_in(args.log) - before
        run(program, program.watched)
    for _ in range(args.runs):
        for program in programs:
            program.seconds.append(run(program, program.timed))
    remove(out)
    remove(old)

    peers = (args.base,) if args.base else ("floor", "curl", "sha256sum", "")
    base = next(program for peer in peers for program in programs if program.name.startswith(peer))
    for program in programs:
        # A ratio within one turn compares neighbours in time; what disturbs the machine disturbs both.
        ratio = statistics.median(ours / theirs for ours, theirs in zip(program.seconds, base.seconds))
        median = statistics.median(program.seconds)
        peak = f"{program.peak_kib / 1024:.0f}" if program.peak_kib else "-"
        print(f"| {args.title} | {program.name} | {1000 * median:.1f} | {1000 * min(program.seconds):.1f}"
              f" | {ratio:.2f} × {base.name} | {peak} | {program.requests if args.log else '-'} |")
    sys.stdout.flush()


async def delayed(reader, writer, delay):
    """Copies one direction; every byte arrives `delay` seconds after it was sent, and none waits for the one before."""
    queue = asyncio.Queue(maxsize=256)
    loop = asyncio.get_running_loop()

    async def take():
        while data := await reader.read(1 << 16):
            await queue.put((loop.time() + delay, data))
        await queue.put((loop.time() + delay, b""))

    taker = asyncio.create_task(take())
    try:
        while True:
            at, data = await queue.get()
            await asyncio.sleep(max(0, at - loop.time()))
            if not data:
                break
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except (ConnectionError, OSError):
        pass
    finally:
        taker.cancel()


def delay(args):
    """A TCP relay on loopback that adds a round-trip time; prints its port."""
    one_way = args.round_trip_ms / 2000

    async def serve(reader, writer):
        await asyncio.sleep(2 * one_way)  # the handshake is one round trip, too
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", args.port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(delayed(reader, there_writer, one_way), delayed(there_reader, writer, one_way))
        there_writer.close()
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
        print(server.sockets[0].getsockname()[1], flush=True)
        async with server:
            await server.serve_forever()

    asyncio.run(main())


def cut(args):
    """A TCP relay on loopback that ends every connection after 20 to 80 MiB of answers; prints its port, and writes the
    bytes that went through and the number of cuts to a file, as they are at every end of a connection."""
    totals = {"bytes": 0, "cuts": 0}

    def report():
        with open(args.report, "w", encoding="utf-8") as out:
            print(totals["bytes"], totals["cuts"], file=out)

    async def serve(reader, writer):
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", args.port)
        left = random.randint(20 << 20, 80 << 20)

        async def questions():
            while data := await reader.read(1 << 16):
                there_writer.write(data)
                await there_writer.drain()
            there_writer.close()

        asking = asyncio.create_task(questions())
        try:
            while left > 0 and (data := await there_reader.read(min(left, 1 << 16))):
                left -= len(data)
                totals["bytes"] += len(data)
                writer.write(data)
                await writer.drain()
            totals["cuts"] += left == 0
        except (ConnectionError, OSError):
            pass
        finally:
            asking.cancel()
            there_writer.close()
            writer.close()
            report()

    async def main():
        report()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        async with server:
            await server.serve_forever()

    asyncio.run(main())


def token(args):
    """A relay for GET and HEAD on loopback that wants a bearer token, which it gives to everybody; prints its port, and writes
    what it was asked to a file."""
    import http.client
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Relay(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Otherwise a body waits 40 ms for the acknowledgement of its head on every connection that is used again.
        disable_nagle_algorithm = True

        def do_GET(self):
            with open(args.log, "a", encoding="utf-8") as log:
                print(f'"{self.command} {self.path}"', file=log)
            if self.path.startswith("/token"):
                self.answer(200, {"Content-Type": "application/json"}, b'{"token":"t","expires_in":300}')
            elif self.headers.get("Authorization") != "Bearer t":
                realm = f'Bearer realm="http://{self.headers["Host"]}/token",service="bench"'
                self.answer(401, {"WWW-Authenticate": realm}, b'{"errors":[{"code":"UNAUTHORIZED"}]}')
            else:
                self.relay()

        do_HEAD = do_GET

        def relay(self):
            there = http.client.HTTPConnection("127.0.0.1", args.port)
            # Some write one field for each type they accept.
            kept = {name: ", ".join(self.headers.get_all(name)) for name in ("Accept", "If-None-Match", "Range")
                    if name in self.headers}
            there.request(self.command, self.path, headers=kept)
            reply = there.getresponse()
            passed = ("content-type", "docker-content-digest", "etag", "content-range", "accept-ranges")
            fields = {name: value for name, value in reply.getheaders() if name.lower() in passed}
            self.answer(reply.status, fields, reply.read(), reply.getheader("Content-Length"))
            there.close()

        def answer(self, status, fields, body, length=None):
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Relay)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def wasm(args):
    """A file of random bytes that begins as a component does."""
    with open(args.file, "wb") as out:
        out.write(b"\0asm\x0d\0\x01\0")
        for chunk in random_chunks(args.bytes - 8):
            out.write(chunk)


def port(_args):
    """A port that is free on loopback now."""
    import socket
    for _ in range(100):
        candidate = random.randint(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("", candidate))
            except OSError:
                continue
        print(candidate)
        return
    sys.exit("pull.py: no free port")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("layout")
    command.set_defaults(run=layout)
    command.add_argument("directory")
    command.add_argument("--bytes", type=int, required=True)
    command.add_argument("--count", type=int, default=1)
    command.add_argument("--layers", type=int, default=1)
    command.add_argument("--media-type", default="application/wasm")

    command = commands.add_parser("wasm")
    command.set_defaults(run=wasm)
    command.add_argument("file")
    command.add_argument("--bytes", type=int, required=True)

    command = commands.add_parser("entries")
    command.set_defaults(run=entries)
    command.add_argument("directory")
    command.add_argument("--count", type=int, required=True)

    command = commands.add_parser("measure")
    command.set_defaults(run=measure)
    command.add_argument("--title", required=True)
    command.add_argument("--runs", type=int, required=True)
    command.add_argument("--bytes", type=int, default=0, help="written and deleted before each run")
    command.add_argument("--work", required=True)
    command.add_argument("--base", default="", help="the program that the others are compared with")
    command.add_argument("--log", default="")
    command.add_argument("--first", type=int, default=0)
    command.add_argument("--directory", action="store_true", help="{out} is an empty directory, not an absent path")
    command.add_argument("programs", nargs="+", help="name=command")

    command = commands.add_parser("cut")
    command.set_defaults(run=cut)
    command.add_argument("--port", type=int, required=True)
    command.add_argument("--report", required=True)

    command = commands.add_parser("delay")
    command.set_defaults(run=delay)
    command.add_argument("--port", type=int, required=True)
    command.add_argument("--round-trip-ms", type=float, required=True)

    command = commands.add_parser("token")
    command.set_defaults(run=token)
    command.add_argument("--port", type=int, required=True)
    command.add_argument("--log", required=True)

    command = commands.add_parser("port")
    command.set_defaults(run=port)

    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
