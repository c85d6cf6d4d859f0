"""Viewers of a live stream by the thousand, beside nginx that sends the same bytes as files to the same viewers.

Every figure of cost is the server's own processor time (utime and stime of its processes) for each answer; answers a second a core
are its inverse. The viewers, and the publisher of the stream, are other processes. `make bench-delivery` builds what is needed.
"""

import asyncio
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import rig

VIEWERS = pathlib.Path(os.environ.get("VIEWERS_BIN", rig.ROOT / "benches/delivery/target/release/loom-bench-delivery"))
SECONDS = float(os.environ.get("DELIVERY_SECONDS", "20"))
COUNTS = [int(count) for count in os.environ.get("DELIVERY_VIEWERS", "2000,10000").split(",")]
PART_MS = 334


def family(process):
    """A process and its children."""
    children = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True).stdout.split()
    return [process, *map(int, children)]


def spent(process):
    """Processor seconds of a process and its children so far."""
    total = 0
    for one in family(process):
        fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


async def view(base, process, path, ask, viewers, folder=None, gzip=False, every=PART_MS):
    """Lets viewers ask; what they got and what it cost the server."""
    command = [VIEWERS, "--address", base.removeprefix("http://"), "--path", path, "--ask", ask, "--viewers", viewers]
    command += ["--seconds", SECONDS, "--every", every]
    command += ["--folder", folder] if folder else []
    command += ["--gzip"] if gzip else []
    running = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said = []
    while line := (await running.stderr.readline()).decode():
        if line.strip() == "measuring":
            break
        said.append(line)
    before = spent(process)
    out, error = await running.communicate()
    cost = spent(process) - before
    if not out:
        sys.exit(f"the viewers ended early:\n{''.join(said)}{error.decode()}")
    found = json.loads(out)
    for line in [*said, *error.decode().splitlines()][:3]:
        print("  " + line.strip(), flush=True)
    return {**found, "cpu": cost, "per_core": found["answers"] / cost if cost else float("nan")}


class Nginx:
    """nginx with the files of a folder, one worker a core, tuned as its makers say for static files. Without sendfile it copies what it
    sends, as every server does that encrypts."""

    def __init__(self, files, sendfile=True):
        self.files, self.sendfile = files, "on" if sendfile else "off"

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="loom-nginx-")
        root = pathlib.Path(self.folder.name)
        root.chmod(0o755)
        (root / "www").mkdir()
        for name, data in self.files.items():
            (root / "www" / name).write_bytes(data)
        self.base = f"http://127.0.0.1:{rig.free_port(socket.SOCK_STREAM)}"
        (root / "nginx.conf").write_text(f"""
            user root;
            daemon off; pid {root}/pid; error_log {root}/error.log crit;
            worker_processes auto; worker_rlimit_nofile 30000;
            events {{ worker_connections 12000; multi_accept on; }}
            http {{
                access_log off; sendfile {self.sendfile}; output_buffers 1 256k; tcp_nopush on; tcp_nodelay on;
                keepalive_requests 100000000; keepalive_timeout 600s;
                open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s;
                types {{ video/mp4 m4s; application/vnd.apple.mpegurl m3u8; }}
                client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;
                uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
                server {{ listen {self.base.removeprefix("http://")} backlog=4096; root {root}/www; }}
            }}""")
        self.process = subprocess.Popen(["nginx", "-p", str(root), "-c", f"{root}/nginx.conf"])
        for _ in range(100):
            time.sleep(0.05)
            port = int(self.base.rsplit(":", 1)[1])
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return self
        sys.exit("nginx does not answer")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)
        self.folder.cleanup()


async def main():
    if not shutil.which("nginx"):
        sys.exit("there is no nginx: apt-get install nginx-light")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows, late = [], []
    film = rig.Encoded(rig.screen_h264(60))
    film.packets *= int(2 + len(COUNTS) * (SECONDS + 20) / 20)  # over and over, for as long as it takes
    async with rig.Server(LOOM_CAPTIONS="off", LOOM_LADDER="source") as server:
        recording = await server.create()
        publication = await rig.Publication.start(
            server.http, recording["whip_url"], recording["whip_token"], film
        )
        await server.first_part(recording)
        await asyncio.sleep(4)
        base = f"/v1/recordings/{recording['id']}/hls/source"
        folder = f"{server.folder.name}/data/recordings/{recording['id']}/hls/source"
        path = f"{base}/index.m3u8"
        playlist = await server.playlist(recording, "source/index.m3u8")
        parts = re.findall(r'URI="(p\d+\.m4s)"', playlist)[-8:-1]
        sent = [(await server.http.get(f"{base}/{part}")).content for part in parts]
        part = sorted(sent, key=len)[len(sent) // 2]
        pid = server.process.pid

        for viewers in COUNTS:
            for ask, gzip in (("playlists", False), ("parts", False)):
                found = await view(server.base, pid, path, ask, viewers, folder, gzip)
                mean = found["bytes"] / max(found["answers"], 1)
                rows.append((viewers, ask, "Loom", mean, found))
                if ask == "parts":
                    late.append((viewers, "Loom", found["late_ms"]))
        found = await view(server.base, pid, path, "parts", 1000, folder)
        late.insert(0, (1000, "Loom", found["late_ms"]))
        await publication.close()

    for viewers in COUNTS:
        for ask, data in (("playlists", playlist.encode()), ("parts", part)):
            # the same bytes on average as Loom sent to as many
            mean = next(row[3] for row in rows if row[:3] == (viewers, ask, "Loom"))
            data = (data * (int(mean) // len(data) + 1))[: int(mean)]
            for sendfile in (True, False) if ask == "parts" else (True,):
                with Nginx({"file.m4s": data}, sendfile) as nginx:
                    found = await view(nginx.base, nginx.process.pid, "/file.m4s", "file", viewers)
                    rows.append((viewers, ask, "nginx" if sendfile else "nginx without sendfile", mean, found))
                    if ask == "parts" and sendfile:
                        late.append((viewers, "nginx", found["late_ms"]))
    with Nginx({"file.m4s": part}) as nginx:
        found = await view(nginx.base, nginx.process.pid, "/file.m4s", "file", 1000)
        late.append((1000, "nginx", found["late_ms"]))

    lines = []
    for viewers, ask, who, mean, found in rows:
        theirs = next(row[4] for row in rows if row[:3] == (viewers, ask, "nginx"))
        lines.append((
            viewers, ask, who, f"{mean / 1000:.1f} kB", found["answers"], found["refused"], found["lost"],
            f"{found['cpu']:.2f} s", f"{found['per_core']:.0f}",
            f"{found['per_core'] / theirs['per_core']:.2f}" if who != "nginx" else "",
        ))
    head = ["waiting", "asked for", "server", "each", "answers", "refused", "lost", "CPU", "answers/s/core", "of nginx"]
    text = rig.table(head, *lines)
    text += (
        "\n\nFrom a part on the server's disk (its file's change time) to the waiting client that has read it whole, ms; beside it how long"
        "\nnginx takes for the same bytes, for the same clients, that ask at one instant for a file that is there:\n\n"
    )
    late.sort(key=lambda row: row[0])
    rows = [(n, who, found["n"], *(f"{found[at]:.1f}" for at in ("p50", "p99", "max"))) for n, who, found in late if found["n"]]
    text += rig.table(["waiting", "server", "parts fetched", "p50", "p99", "worst"], *rows)
    rig.report("delivery", "Delivery to many: cost of an answer, and how late parts are", text)


if __name__ == "__main__":
    asyncio.run(main())
