"""One publisher with several pictures and several sounds: each is kept, each plays, and they are as long as each other."""

import re

import av
import numpy
import pytest

import judges

SECONDS = 8

# Publishes two canvases and two oscillators for a while, then deletes the WHIP resource.
PUBLISH = """async ({url, token, seconds, codec}) => {
    const sound = new AudioContext();
    await sound.resume();
    const stops = [];
    const picture = (width, height, colour) => {
        const canvas = Object.assign(document.createElement('canvas'), {width, height});
        document.body.append(canvas);
        const pen = canvas.getContext('2d');
        let count = 0;
        const draw = setInterval(() => {
            pen.fillStyle = colour;
            pen.fillRect(0, 0, width, height);
            pen.fillStyle = 'white';
            pen.fillRect((count++ * 8) % width, height / 2, 16, 16);
        }, 50);
        const stream = canvas.captureStream(20);
        stops.push(() => clearInterval(draw));
        stream.getTracks()[0].contentHint = 'detail';
        return stream;
    };
    const tone = (frequency) => {
        const source = new OscillatorNode(sound, {frequency});
        const out = sound.createMediaStreamDestination();
        source.connect(out);
        source.start();
        return out.stream;
    };
    const streams = [picture(480, 270, 'rgb(200,0,0)'), picture(640, 360, 'rgb(0,0,200)'), tone(440), tone(880)];
    const tracks = streams.map((stream) => ({track: stream.getTracks()[0], stream}));
    const session = await whip.publish({url, token, codec, tracks});
    if (!session.peer) return session;
    await new Promise((done) => setTimeout(done, seconds * 1000));
    const stats = [...(await session.peer.getStats()).values()];
    await whip.end(session);
    stops.forEach((stop) => stop());
    const sent = stats.filter((one) => one.type === 'outbound-rtp');
    return {sent: sent.map((one) => ({
        mid: one.mid, kind: one.kind, frames: one.framesSent, packets: one.packetsSent, width: one.frameWidth,
    }))};
}"""

RED, BLUE = 0, 2


def colour(target):
    """Mean red, green and blue of the first picture, by libav."""
    with av.open(target) as film:
        frame = next(film.decode(video=0))
        return frame.to_ndarray(format="rgb24").reshape(-1, 3).mean(axis=0)


def pitch(target):
    """The loudest frequency in the second second, Hz, by libav."""
    samples, rate = [], 0
    with av.open(target) as sound:
        resampler = av.AudioResampler(format="flt", layout="mono")
        for frame in sound.decode(audio=0):
            rate = frame.sample_rate
            samples += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
    second = numpy.concatenate(samples)[rate : 2 * rate]
    return float(numpy.argmax(numpy.abs(numpy.fft.rfft(second)))) * rate / len(second)


@pytest.mark.parametrize("codec", ["h264", "vp8"])
def test_each_picture_and_each_sound_of_a_publisher_is_kept(server, recorder, publishing_page, codec):
    recording = server.create("Two pictures, two sounds")
    page = publishing_page(recorder)
    asked = {"url": recording["whip_url"], "token": recording["whip_token"], "seconds": SECONDS, "codec": codec}
    told = page.evaluate(PUBLISH, asked)
    print(told)
    assert "refused" not in told, told["refused"]
    ready = server.until_state(recording, "ready")
    print(ready["tracks"], ready["renditions"])
    sent = {one["mid"]: one for one in told["sent"]}
    assert [track["kind"] for track in ready["tracks"]] == ["video", "video", "audio", "audio"], ready["tracks"]
    assert {track["mid"] for track in ready["tracks"]} == set(sent)
    assert [track["width"] for track in ready["tracks"][:2]] == [480, 640]
    assert all(track["renditions"] for track in ready["tracks"]), ready["tracks"]
    ids = {rendition["id"] for rendition in ready["renditions"]}
    # What players cannot be given as it came is encoded.
    first = "source" if codec == "h264" else ready["tracks"][0]["renditions"][0]
    assert {first, "video-2", "opus", "opus-2", "aac", "aac-2"} <= ids, ids

    spans = judges.check_finished(server, ready)
    assert all(stop - start > SECONDS - 2.5 for start, stop, *_ in spans.values()), spans
    # Every picture that was sent is kept; an encoder may leave some out.
    for path, track in ((first, ready["tracks"][0]), ("video-2", ready["tracks"][1])):
        start, stop, count, _ = spans[f"{path}/index.m3u8"]
        assert sent[track["mid"]]["frames"] - count <= (5 if codec == "h264" else 40), (path, count, sent)

    # Each is what it was, not the other once more.
    assert colour(judges.url(server, ready, f"{first}/index.m3u8"))[RED] > 100
    assert colour(judges.url(server, ready, "video-2/index.m3u8"))[BLUE] > 100
    for codec in ("opus", "aac"):
        assert abs(pitch(judges.url(server, ready, f"{codec}/index.m3u8")) - 440) < 5
        assert abs(pitch(judges.url(server, ready, f"{codec}-2/index.m3u8")) - 880) < 5

    # Both multivariant playlists play, and name all sound; each its own picture only.
    for name, picture in (("main.m3u8", first), ("video-2.m3u8", "video-2")):
        text = server.http.get(judges.url(server, ready, name)).text
        pictures = set(re.findall(r"^#EXT-X-STREAM-INF:.*\n([^/\s]+)/", text, re.M))
        assert picture in pictures and ("video-2" in pictures) == (picture == "video-2"), text
        assert set(re.findall(r'TYPE=AUDIO.*URI="([^/"]+)/', text)) == {"aac", "aac-2"}, text
        judges.decode(judges.url(server, ready, name))

    # The download is the main picture, though the other one is larger.
    download = server.base + f"/v1/recordings/{ready['id']}/download.mp4"
    assert colour(download)[RED] > 100
