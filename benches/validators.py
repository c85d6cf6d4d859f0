"""The validator of loom-testkit, pointed at live streams of several servers: what each breaks of RFC 8216bis, by clause.

The same pictures and the same tone reach each: Loom by WebRTC, the others by their own ways. `make bench-validators` builds what is
needed; SRS takes part where SRS_BIN names its binary. The validator reads from outside, by URL, and knows no server.
"""

import asyncio
import contextlib
import functools
import http.server
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import threading

import rig

VALIDATE = pathlib.Path(os.environ.get("LOOM_VALIDATE", rig.ROOT / "target" / "debug" / "examples" / "validate"))
SECONDS = int(os.environ.get("VALIDATE_SECONDS", "30"))


async def validated(url, only_playlists=False):
    """What the validator finds at a live stream."""
    command = [VALIDATE, url, "--seconds", SECONDS, "--patience", "5", "--json", *(["--playlists-only"] if only_playlists else [])]
    running = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await running.communicate()
    if running.returncode not in (0, 1):
        raise RuntimeError(f"{url}: {error.decode()[-500:]}")
    return json.loads(out)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files as they are, with the media types of RFC 8216bis §4 and §3.1."""

    protocol_version = "HTTP/1.1"
    extensions_map = {".m3u8": "application/vnd.apple.mpegurl", ".m4s": "video/mp4", ".mp4": "video/mp4", ".ts": "video/mp2t", "": "application/octet-stream"}

    def log_message(self, *_):
        pass

    def end_headers(self):
        self.send_header("cache-control", "no-cache" if self.path.endswith(".m3u8") else "max-age=60")
        self.send_header("access-control-allow-origin", "*")
        super().end_headers()


@contextlib.asynccontextmanager
async def written(command, folder):
    """A packager that writes files into a folder, which a plain web server sends."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    running = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        running.terminate()
        running.wait(10)
        server.shutdown()


def material(video):
    """ffmpeg's input: the pictures as they are and a tone, as fast as they are spoken."""
    tone = ["-f", "lavfi", "-i", "sine=frequency=220:sample_rate=48000"]
    return [*rig.FFMPEG, "-re", "-i", str(video), "-re", *tone, "-c:v", "copy", "-c:a", "aac", "-b:a", "96k"]


async def by_loom(pictures):
    async with rig.Server(LOOM_CAPTIONS="off") as server:
        recording = await server.create()
        tracks = [rig.Encoded(pictures), rig.Sound(rig.hum(SECONDS + 60))]
        publication = await rig.Publication.start(server.http, recording["whip_url"], recording["whip_token"], *tracks)
        await server.first_part(recording)
        report = await validated(recording["hls_url"])
        await publication.close()
        return report


async def by_files(command, playlist, only_playlists=False):
    with tempfile.TemporaryDirectory() as folder:
        async with written(command, folder) as base:
            await rig.until(lambda: listed(pathlib.Path(folder) / playlist), 60, f"{playlist} with two segments")
            return await validated(f"{base}/{playlist}", only_playlists)


async def listed(playlist):
    text = playlist.read_text() if playlist.exists() else ""
    if "#EXT-X-STREAM-INF" in text:
        media = [playlist.parent / line for line in text.splitlines() if line and not line.startswith("#")]
        return all([await listed(it) for it in media])
    return text.count("#EXTINF") >= 2


async def by_srs(film):
    binary = os.environ.get("SRS_BIN")
    if not binary:
        return None
    with tempfile.TemporaryDirectory() as folder:
        rtmp, web = rig.free_port(socket.SOCK_STREAM), rig.free_port(socket.SOCK_STREAM)
        settings = pathlib.Path(folder) / "srs.conf"
        settings.write_text(
            f"listen {rtmp}; daemon off; max_connections 100; pid {folder}/srs.pid; srs_log_tank console;\n"
            f"http_server {{ enabled on; listen {web}; dir {folder}/web; }}\n"
            f"vhost __defaultVhost__ {{ hls {{ enabled on; hls_path {folder}/web; hls_fragment 2; hls_window 20; }} }}\n"
        )
        server = subprocess.Popen([binary, "-c", settings], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            await asyncio.sleep(2)
            send = subprocess.Popen([*material(film), "-f", "flv", f"rtmp://127.0.0.1:{rtmp}/live/it"], stdin=subprocess.DEVNULL)
            try:
                await asyncio.sleep(15)
                return await validated(f"http://127.0.0.1:{web}/live/it.m3u8")
            finally:
                send.terminate()
                send.wait(10)
        finally:
            server.terminate()
            server.wait(10)


def row(name, kind, report):
    broken = {"MUST": {}, "SHOULD": {}}
    for finding in report["findings"]:
        level = next((level for level in ("MUST", "SHOULD") if finding["level"].upper().startswith(level)), None)
        if level:
            broken[level].setdefault(finding["clause"], []).append(finding["rule"])
    cells = [", ".join(f"{clause} ({len(set(rules))})" if len(set(rules)) > 1 else clause for clause, rules in broken[it].items()) or "none" for it in broken]
    return [name, kind, report["playlists"], report["segments"], report["parts"], *cells], broken


async def main():
    pictures, film = rig.screen_h264(SECONDS + 60), rig.screen_mp4(SECONDS + 60)
    version = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True).stdout.split()[2].split("-")[0]
    hls = ["-f", "hls", "-hls_time", "2", "-hls_list_size", "10", "-hls_flags"]
    fmp4 = [*material(film), *hls, "independent_segments+delete_segments+temp_file", "-hls_segment_type", "fmp4", "index.m3u8"]
    ts = [*material(film), *hls, "independent_segments+delete_segments+temp_file", "index.m3u8"]
    dash = [*material(film), "-f", "dash", "-hls_playlist", "1", "-lhls", "1", "-strict", "experimental", "-seg_duration", "2", "-window_size", "10",
            "-streaming", "1", "-ldash", "1", "manifest.mpd"]
    gst = ["gst-launch-1.0", "-q", "hlssink2", "name=out", "target-duration=2", "playlist-length=10", "max-files=12",
           "filesrc", f"location={pictures}", "!", "h264parse", "!", "video/x-h264,framerate=30/1", "!", "identity", "sync=true", "!", "out.video"]
    asked = [
        ("Loom", "LL-HLS, CMAF", by_loom(pictures)),
        (f"ffmpeg {version}", "HLS, fMP4", by_files(fmp4, "index.m3u8")),
        (f"ffmpeg {version}", "HLS, MPEG-TS", by_files(ts, "index.m3u8")),
        (f"ffmpeg {version}", "its dash muxer with -lhls", by_files(dash, "master.m3u8")),
        ("GStreamer 1.22 hlssink2", "HLS, MPEG-TS", by_files(gst, "playlist.m3u8")),
        ("SRS", "HLS, MPEG-TS", by_srs(film)),
    ]
    rows, notes = [], []
    for name, kind, asking in asked:
        try:
            report = await asking
        except (RuntimeError, TimeoutError) as why:
            notes.append(f"- {name}, {kind}: not read: {why}")
            continue
        if report is None:
            notes.append(f"- {name}: not run; SRS_BIN names no binary")
            continue
        line, broken = row(name, kind, report)
        rows.append(line)
        notes += [f"- {name}, {kind}, {level} {clause}: {'; '.join(sorted(set(rules)))}" for level, found in broken.items() for clause, rules in found.items()]
    head = ["server", "stream", "playlists", "segments", "parts", "MUST broken", "SHOULD broken"]
    text = f"{SECONDS} s of a live stream each, the same pictures (720p, a key frame every 2 s) and a tone.\n\n{rig.table(head, *rows)}\n\n"
    rig.report("validators", "What live origins break of RFC 8216bis", text + "\n".join(notes), "make bench-validators")


if __name__ == "__main__":
    asyncio.run(main())
