"""POST of a WHIP offer to the server's first key frame."""

import asyncio
import contextlib
import math

import rig
from peers import AiortcReceiver

RUNS = 20
BY_CHROMIUM = 5
HISTOGRAM = "loom_first_key_frame_seconds"


async def by_aiortc(server):
    """(inside: offer's arrival to key frame; seen outside: POST to renditions told; POST to answer)"""
    recording = await server.create()
    told = asyncio.create_task(renditions_told(server, recording))
    before = await observed(server)
    publication = await rig.Publication.start(
        server.http, recording["whip_url"], recording["whip_token"], rig.Pictures()
    )
    outside = await asyncio.wait_for(told, 20) - publication.posted
    inside = await observation_after(server, before)
    await publication.close()
    await server.http.delete(f"/v1/recordings/{recording['id']}")
    return inside, outside, publication.answered - publication.posted


async def by_chromium(server, page):
    async def posted():
        return await page.evaluate("window.posted")

    before = await observed(server)
    await page.goto(server.base)
    await page.evaluate("""() => {
        const ask = window.fetch;
        window.fetch = (url, options) => {
            if (String(url).endsWith('/whip')) window.posted = Date.now() / 1000;
            return ask(url, options);
        };
    }""")
    await page.get_by_test_id("mode-camera").check(force=True)
    async with page.expect_response(lambda answer: answer.url.endswith("/v1/recordings") and answer.status == 201) as made:
        await page.get_by_test_id("record-button").click()
    recording = await (await made.value).json()
    told = await asyncio.wait_for(renditions_told(server, recording), 20)
    inside = await observation_after(server, before)
    outside = told - await posted()
    await page.get_by_test_id("stop-button").click()
    await page.goto("about:blank")
    await server.http.delete(f"/v1/recordings/{recording['id']}")
    return inside, outside


async def renditions_told(server, recording):
    async for name, data, at in server.events(recording):
        if name == "renditions" and data["renditions"]:
            return at


async def observed(server):
    count, total = await server.metric(f"{HISTOGRAM}_count"), await server.metric(f"{HISTOGRAM}_sum")
    return (0, 0) if math.isnan(count) else (count, total)


async def observation_after(server, before):
    """The one value that the histogram took since `before`; None where the server has no such histogram."""

    async def grown():
        count, total = await observed(server)
        return count == before[0] + 1 and (total - before[1],)

    with contextlib.suppress(TimeoutError):
        return (await rig.until(grown, 1, HISTOGRAM))[0]


async def by_peer(http):
    async with AiortcReceiver() as peer:
        seen = []
        for _ in range(RUNS + 1):
            publication = await rig.Publication.start(http, peer.url, "none", rig.Pictures())
            offered, decoded = await peer.first_picture()
            seen.append((decoded - offered, decoded - publication.posted, publication.answered - publication.posted))
            await publication.close()
            await asyncio.sleep(0.2)
        return seen[1:]


async def main():
    async with rig.Server() as server:
        await server.captions_on()
        ours = [await by_aiortc(server) for _ in range(RUNS + 1)][1:]
        theirs = await by_peer(server.http)
        async with rig.chromium(*rig.devices()) as browser:
            page = await browser.new_page()
            chromium = [await by_chromium(server, page) for _ in range(BY_CHROMIUM + 1)][1:]
    column = lambda rows, i: [row[i] for row in rows if row[i] is not None]
    rig.report("first_key_frame", "POST to first key frame", rig.table(
        ["publisher, receiver, from where to where", "p50", "p95", "worst", "runs", "ratio of p50 to aiortc's"],
        ["aiortc → Loom: offer's arrival to first key frame, told by the server", *rig.spread(column(ours, 0)),
         rig.ratio(column(ours, 0), column(theirs, 0))],
        ["aiortc → aiortc: offer's arrival to first picture decoded", *rig.spread(column(theirs, 0)), "1"],
        ["aiortc → Loom: POST sent to an event that tells the renditions", *rig.spread(column(ours, 1)),
         rig.ratio(column(ours, 1), column(theirs, 1))],
        ["aiortc → aiortc: POST sent to first picture decoded", *rig.spread(column(theirs, 1)), "1"],
        ["aiortc → Loom: POST sent to answer read", *rig.spread(column(ours, 2)),
         rig.ratio(column(ours, 2), column(theirs, 2))],
        ["aiortc → aiortc: POST sent to answer read", *rig.spread(column(theirs, 2)), "1"],
        ["Chromium → Loom: offer's arrival to first key frame and first sound", *rig.spread(column(chromium, 0)), "no peer"],
        ["Chromium → Loom: POST sent to an event that tells the renditions (waits for sound too)", *rig.spread(column(chromium, 1)), "no peer"],
    ) + """

The peer is aiortc as a WHIP receiver in a process of its own; its time ends with a decoded 640x360 picture, some
milliseconds after the key frame came in. aiortc sends a picture only; Chromium also sends sound, and Loom's histogram is
told when both are there. The event comes once the key frame is in and the graph is planned, so a little later. Both
receivers have the same publisher, which runs beside them. The first run of each is a warm-up and not counted.""")


asyncio.run(main())
