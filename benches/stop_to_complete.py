"""POST …/stop to every media playlist saying EXT-X-ENDLIST."""

import asyncio
import time

import rig
from peers import FfmpegHls

RUNS = 6
GOAL = 0.5
LENGTH = 5


async def stop(server):
    """(POST sent to all playlists complete, POST sent to its answer)"""
    recording = await server.create()
    film = rig.Encoded(rig.screen_h264(60))
    publication = await rig.Publication.start(
        server.http, recording["whip_url"], recording["whip_token"], film, rig.Sound(rig.hum(LENGTH))
    )
    await server.main_playlist(recording)
    await asyncio.sleep(LENGTH - 1)
    paths = rig.media_playlists(await server.playlist(recording))
    begun = time.time()
    answer = asyncio.create_task(server.stop(recording))
    answer.add_done_callback(lambda _: setattr(answer, "at", time.time()))

    async def complete(path):
        async def ended():
            return "#EXT-X-ENDLIST" in await server.playlist(recording, path) and time.time()

        return await rig.until(ended, 20, f"the end of {path}", every=0.01)

    done = max(await asyncio.gather(*map(complete, paths)))
    await answer
    await publication.close()
    return done - begun, answer.at - begun, len(paths)


async def main():
    async with rig.Server() as server:
        await server.captions_on()
        ours = [await stop(server) for _ in range(RUNS)]
    theirs = []
    for _ in range(RUNS):
        async with FfmpegHls(rig.screen_mp4(60)) as peer:
            await asyncio.sleep(LENGTH)
            theirs.append(await peer.stop())
    complete = [run[0] for run in ours]
    rig.report("stop_to_complete", "Stop to complete playlists (goal 0.5 s)", rig.table(
        ["", "p50", "p95", "worst", "runs", "within 0.5 s", "ratio of p50 to ffmpeg's"],
        [f"Loom: POST stop to ENDLIST in all {ours[0][2]} media playlists", *rig.spread(complete),
         f"{sum(run <= GOAL for run in complete)} of {RUNS}", rig.ratio(complete, theirs)],
        ["Loom: POST stop to its answer", *rig.spread([run[1] for run in ours]), "", ""],
        ["ffmpeg: SIGINT to ENDLIST in both media playlists and exit", *rig.spread(theirs),
         f"{sum(run <= GOAL for run in theirs)} of {RUNS}", "1"],
    ) + f"""

Each recording is {LENGTH} s of 720p30 with sound, published by aiortc. The peer is ffmpeg reading the same pictures at
its own pace (`-re`), keeping it and making a 360p rung of it (x264 superfast, zerolatency), HLS with segments of 2 s: it has
no network side to close, no sound, no captions and fewer renditions to end.""")


asyncio.run(main())
