"""Record pressed on the page, in Chromium, to the first part listed in a media playlist."""

import asyncio
import statistics

import rig

RUNS = 5
MODES = ["camera", "screen", "both"]
GOAL, LIMIT = 1.0, 1.5

# Notes when Record was pressed, when WHIP was posted and answered, and when the connection stood.
WATCH = """() => {
    window.at = {};
    const now = () => Date.now() / 1000;
    document.querySelector('[data-testid=record-button]').addEventListener('click', () => { at.pressed = now(); }, true);
    const ask = window.fetch;
    window.fetch = async (url, options) => {
        const name = String(url).endsWith('/whip') ? 'whip' : String(url).endsWith('/v1/recordings') ? 'created' : '';
        if (name === 'whip') at.posted = now();
        const answer = await ask(url, options);
        if (name) at[name] ??= now();
        return answer;
    };
    new MutationObserver(() => { if (document.querySelector('#studio').dataset.phase === 'recording') at.connected ??= now(); })
        .observe(document.querySelector('#studio'), { attributes: true });
}"""


async def press(server, page, mode):
    """Seconds from the press to each step on the way to the first part."""
    await page.goto(server.base)
    await page.get_by_test_id(f"mode-{mode}").check(force=True)
    await page.evaluate(WATCH)
    await asyncio.sleep(0.5)
    async with page.expect_response(lambda answer: answer.url.endswith("/v1/recordings") and answer.status == 201) as made:
        await page.get_by_test_id("record-button").click()
    recording = await (await made.value).json()
    before = await server.metric("loom_first_key_frame_seconds_sum")
    listed, main, whole = await asyncio.gather(
        server.first_part(recording, _HLS_msn=1, _HLS_part=0), server.main_playlist(recording), server.first_part(recording)
    )
    key_frame = await server.metric("loom_first_key_frame_seconds_sum") - (0 if before != before else before)
    at = await page.evaluate("at")
    await page.get_by_test_id("stop-button").click()
    await asyncio.sleep(0.3)
    await page.goto("about:blank")
    await server.http.delete(f"/v1/recordings/{recording['id']}")
    steps = {name: at.get(name, float("nan")) - at["pressed"] for name in ("created", "posted", "whip", "connected")}
    return {**steps, "key frame": steps["posted"] + key_frame, "listed": listed - at["pressed"],
            "main": main - at["pressed"],
            "playable": max(listed, main, whole) - at["pressed"]}


async def main():
    runs = {}
    async with rig.Server() as server, rig.chromium(*rig.devices()) as browser:
        await server.captions_on()
        page = await browser.new_page()
        await press(server, page, "camera")
        for mode in MODES:
            runs[mode] = [await press(server, page, mode) for _ in range(RUNS)]
    rows = [
        [f"{mode}: {words}", *rig.spread([run[step] for run in runs[mode]]),
         f"{sum(run[step] <= GOAL for run in runs[mode])} of {RUNS}",
         f"{sum(run[step] <= LIMIT for run in runs[mode])} of {RUNS}"]
        for mode in MODES
        for step, words in (("listed", "first part listed"), ("playable", "a player that knows nothing yet gets both playlists"))
    ]
    steps = list(runs["camera"][0])
    way = [[mode, *(f"{statistics.median(run[step] for run in runs[mode]) * 1000:.0f}" for step in steps)] for mode in MODES]
    rig.report("record_to_part", "Record pressed to first part listed (goal 1.0 s, limit 1.5 s)", rig.table(
        ["what is recorded", "p50", "p95", "worst", "runs", "within 1.0 s", "within 1.5 s"], *rows
    ) + "\n\nWhere the time goes, medians in ms since the press:\n\n" + rig.table(
        ["what is recorded", "devices open, recording created", "WHIP posted", "WHIP answered", "connected",
         "first key frame and sound at the server", "first part listed", "main.m3u8 there", "both playlists for a new player"], *way
    ) + """

No peer: nothing that can be had from PyPI, npm or Debian is a page that records to low-latency HLS. The press is a real
click in headless Chromium with files as camera and microphone; the playlists are asked for every 5 ms, the first part's
by `_HLS_msn=1&_HLS_part=0`. A plain request of a media playlist is answered once it has a whole segment, for hls.js takes less
for an error: the second row of each is when such a player can begin. One run before
the counted ones warms Chromium up.""")


asyncio.run(main())
