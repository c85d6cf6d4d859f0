"""From a picture drawn in one Chromium to the same picture shown by hls.js in another.

LOOM_PART is the length of a part in milliseconds, for the server: `LOOM_PART=200 benches/live_delay.py`.
"""

import asyncio
import os
import pathlib
import re
import statistics
import time
from datetime import datetime

import rig
from peers import ClockByFfmpeg

HERE = pathlib.Path(__file__).parent
JOINS = 8
SECONDS = 25
SETTLED = 5
PART = int(os.environ.get("LOOM_PART", 334))
# Parts of 200 ms are for those who want it sooner.
GOAL = 1.5 if PART <= 200 else 2.0


async def serve(page, url, body):
    async def answer(route):
        await route.fulfill(body=body, content_type="text/html")

    await page.route(url, answer)
    await page.goto(url)


async def playing(page):
    return await page.evaluate("document.querySelector('video').readyState >= 2")


async def watch(page, begin):
    """The delay in seconds of each frame shown for SECONDS, the pictures' height most seen, and the number of stalls."""
    await begin()
    await page.evaluate(f"window.told = ({(HERE / 'clock_reader.js').read_text()})(document.querySelector('video'))")
    await asyncio.sleep(SECONDS)
    told = await page.evaluate("told()")
    frames = [frame for frame in told["seen"] if frame["delay"] is not None]
    unread = len(told["seen"]) - len(frames)
    if not frames:
        raise RuntimeError(f"no clock could be read from {unread} frames")
    first = frames[0]["at"]
    late = [frame["delay"] / 1000 for frame in frames if frame["at"] - first >= SETTLED * 1000]
    height = statistics.mode(frame["height"] for frame in frames)
    return [frame["delay"] / 1000 for frame in frames], late, height, told["stalls"], unread


async def listing_lag(server, recording, path, seconds):
    """How long after a part's last picture came to the server each part was listed, by blocking reload."""
    lags = []
    deadline = time.time() + seconds
    last = None
    query = {}
    while time.time() < deadline:
        text = await server.playlist(recording, path, **query)
        now = time.time()
        end, msn, part = edge(text)
        if last is not None and end > last:
            lags.append(now - end)
        last = end
        query = {"_HLS_msn": msn, "_HLS_part": part}
    return lags


def edge(text):
    """Wall-clock end of the last listed part, and the media sequence number and index of the next."""
    msn = int(re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", text)[1])
    at, part = None, 0
    inside = 0.0
    for line in text.splitlines():
        if line.startswith("#EXT-X-PROGRAM-DATE-TIME:"):
            at = datetime.fromisoformat(line.split(":", 1)[1].replace("Z", "+00:00")).timestamp()
        elif line.startswith("#EXT-X-PART:"):
            inside += float(re.search(r"DURATION=([\d.]+)", line)[1])
            part += 1
        elif line.startswith("#EXTINF:"):
            at += float(line[8:].split(",")[0])
            msn, part, inside = msn + 1, 0, 0.0
    return at + inside, msn, part


async def ours():
    async with rig.Server() as server, rig.chromium() as sender, rig.chromium() as viewer:
        await server.captions_on()
        recording = await server.create()
        source = await sender.new_page()
        await serve(source, f"{server.base}/bench/clock", (HERE / "clock.html").read_text())
        await source.evaluate("recording => publish(recording)", recording)
        await server.main_playlist(recording)
        await asyncio.sleep(JOINS)
        page = await viewer.new_page()
        lags = {}

        async def begin():
            await page.goto(f"{server.base}/w/{recording['id']}")
            await rig.until(lambda: playing(page), 20, "a picture")

        watching = asyncio.create_task(watch(page, begin))
        await asyncio.sleep(8)
        for path in rig.video_playlists(await server.playlist(recording)):
            lags[path.split("/")[0]] = await listing_lag(server, recording, path, 5)
        seen = await watching
        await source.evaluate("publisher.stop()")
        await server.http.delete(f"/v1/recordings/{recording['id']}")
        return seen, lags


async def theirs():
    async with ClockByFfmpeg() as peer, rig.chromium() as viewer:
        page = await viewer.new_page()
        script = (rig.ROOT / "examples/server/web/vendor/hls.min.js").read_text()
        body = f"<video muted autoplay></video><script>{script}</script>"

        async def files(route):
            file = pathlib.Path(peer.folder.name, route.request.url.split("/hls/")[1])
            if file.exists():
                await route.fulfill(body=file.read_bytes(), headers={"cache-control": "no-store"})
            else:
                await route.fulfill(status=404)

        await page.route("http://127.0.0.1:9/hls/*", files)
        await peer.listed()
        await asyncio.sleep(JOINS)

        async def begin():
            await serve(page, "http://127.0.0.1:9/", body)
            await page.evaluate("""() => {
                const hls = new Hls();
                hls.loadSource('http://127.0.0.1:9/hls/index.m3u8');
                hls.attachMedia(document.querySelector('video'));
            }""")
            await rig.until(lambda: playing(page), 20, "a picture")

        return await watch(page, begin)


async def main():
    (all_ours, late_ours, height, stalls, unread), lags = await ours()
    all_theirs, late_theirs, height_theirs, stalls_theirs, unread_theirs = await theirs()
    within = sum(delay <= GOAL for delay in late_ours) / len(late_ours)
    rig.report("live_delay", f"Live end-to-end delay, parts of {PART} ms (goal {GOAL:g} s)", rig.table(
        ["", "p50", "p95", "worst", "frames", "ratio of p50 to ffmpeg's"],
        ["Loom: every frame from the first shown", *rig.spread(all_ours, "s"), rig.ratio(all_ours, all_theirs)],
        [f"Loom: from {SETTLED} s after it", *rig.spread(late_ours, "s"), rig.ratio(late_ours, late_theirs)],
        ["ffmpeg's HLS: every frame from the first shown", *rig.spread(all_theirs, "s"), "1"],
        [f"ffmpeg's HLS: from {SETTLED} s after it", *rig.spread(late_theirs, "s"), "1"],
    ) + f"""

Of Loom's frames after {SETTLED} s, {int(within * 100)} % were within {GOAL:g} s. Loom's viewer saw mostly {height} lines, stalled {stalls} times, and
{unread} of its frames could not be read; ffmpeg's saw {height_theirs} lines, stalled {stalls_theirs} times, {unread_theirs} unread.

Of that delay, from a part's last picture being at the server (as EXT-X-PROGRAM-DATE-TIME tells) to the part being listed:

""" + rig.table(["rendition", "p50", "p95", "worst", "parts"], *([name, *rig.spread(lag)] for name, lag in lags.items())) + """

A canvas shows the wall clock as blocks; Chromium publishes it by the product's own WHIP code, 720p at 30 a second; a second
Chromium plays the product's watch page, and the clock is read from each frame as it is presented: capture, encoding,
network, packaging, HLS, decoding are all in. The viewer joins 8 s into the recording. The peer is ffmpeg (x264 superfast, zerolatency) with HLS segments of 2 s, a
360p clock fed as raw pictures, played by the same hls.js with its defaults: it has no capture and no WebRTC leg, which
favours it.""")


asyncio.run(main())
