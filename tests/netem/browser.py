"""A WHIP publisher by Chromium that says what it sent, with the options of publisher.py.

Once a second the picture is white for 100 ms and a 1 kHz tone sounds with it. After --seconds it deletes its WHIP resource and
prints what Chromium counted as JSON. A browser tells how many packets it sent again, not how often it was asked for each.
"""

import argparse
import json
import os
import pathlib
import shutil
import urllib.parse

from playwright.sync_api import sync_playwright

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "e2e" / "publish.js"
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --autoplay-policy=no-user-gesture-required".split()

PUBLISH = """async ({url, token, codec, seconds, rate}) => {
    const canvas = Object.assign(document.createElement('canvas'), {width: 320, height: 240});
    document.body.append(canvas);
    const pen = canvas.getContext('2d');
    const sound = new AudioContext({latencyHint: 'interactive'});
    await sound.resume();
    const source = new OscillatorNode(sound, {frequency: 1000});
    const gate = new GainNode(sound, {gain: 0});
    const out = sound.createMediaStreamDestination();
    source.connect(gate).connect(out);
    source.start();
    let [count, told, shown] = [0, -1, -1];
    const late = [];  // [second, how many seconds after it by the sound's clock its first white picture is drawn]
    const draw = setInterval(() => {
        const at = sound.currentTime;
        const second = Math.floor(at) + 1;
        if (second !== told) {
            gate.gain.setValueAtTime(0.4, second);
            gate.gain.setValueAtTime(0, second + 0.1);
            told = second;
        }
        const bright = at % 1 < 0.1;
        if (bright && second !== shown) {
            late.push([second - 1, at % 1]);
            shown = second;
        }
        pen.fillStyle = bright ? 'white' : 'rgb(20,20,20)';
        pen.fillRect(0, 0, 320, 240);
        pen.fillStyle = 'grey';
        pen.fillRect((count++ * 5) % 288, 100, 32, 32);
        picture.getTracks()[0].requestFrame();
    }, 1000 / rate);
    const picture = canvas.captureStream(0);  // each picture that is drawn, when it is
    picture.getTracks()[0].contentHint = 'detail';
    const tracks = [out.stream, picture].map((stream) => ({track: stream.getTracks()[0], stream}));
    const session = await whip.publish({url, token, codec, tracks});
    if (!session.peer) return session;
    await new Promise((done) => setTimeout(done, seconds * 1000));
    const state = session.peer.connectionState;
    clearInterval(draw);
    picture.getTracks()[0].stop();
    await new Promise((done) => setTimeout(done, 1500));  // what was lost last is asked for
    const stats = [...(await session.peer.getStats()).values()].filter((one) => one.type === 'outbound-rtp');
    await whip.end(session);
    return {state, stats, late};
}"""


def publish(asked):
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("LOOM_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page()
        page.goto(urllib.parse.urljoin(asked.url, "/healthz"))
        page.evaluate(SCRIPT.read_text())
        told = page.evaluate(PUBLISH, vars(asked))
        browser.close()
    assert "stats" in told, told
    by_kind = {one["kind"]: one for one in told["stats"]}
    counted = {
        kind: {
            "sent_again": one.get("retransmittedPacketsSent", 0), "requests": one.get("nackCount", 0),
            "key_frames_asked": one.get("pliCount", 0),
        }
        for kind, one in by_kind.items()
    }
    packets = {kind: one["packetsSent"] for kind, one in by_kind.items()}
    frames = by_kind["video"]["framesEncoded"]
    told = {name: told[name] for name in ("state", "late")}
    print(json.dumps(told | {"frames": frames, "seconds": asked.seconds, "packets": packets} | counted), flush=True)


if __name__ == "__main__":
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--url", required=True)
    ask.add_argument("--token", required=True)
    ask.add_argument("--codec", choices=("h264", "vp8", "vp9", "av1"), default="h264")
    ask.add_argument("--rate", type=int, default=30, help="pictures a second")
    ask.add_argument("--seconds", type=float, default=60)
    publish(ask.parse_args())
