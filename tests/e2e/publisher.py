"""A WHIP publisher by aiortc, as a process of its own: it can be ended politely, or killed.

Prints `connected` once media flows. On SIGTERM or after --seconds it deletes its WHIP resource and ends.
"""

import argparse
import asyncio
import datetime
import fractions
import math
import re
import signal
import time
import urllib.parse
import wave

import aiortc.clock
import av
import httpx
import numpy
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription


class Clock:
    """When media time 0 was; one for both tracks, so that what belongs together is sent together.

    Where a pause is asked for, (from, for) in seconds, nothing is due within it. Publishers that are to be together have media time 0 at a
    whole second of the wall clock.
    """

    begun = None

    def __init__(self, pause=None, together=False):
        self.pause, self.together = pause, together

    def time(self, seconds):
        """The media time of what is sent after so many seconds of sending."""
        return seconds + self.pause[1] if self.pause and seconds >= self.pause[0] else seconds

    async def due(self, seconds):
        now = time.time()
        self.begun = self.begun or time.monotonic() + (math.ceil(now) - now if self.together else 0.0)
        await asyncio.sleep(max(0.0, self.begun + seconds - time.monotonic()))


class Pictures(MediaStreamTrack):
    """A file's encoded pictures, sent as they are, over and over.

    A still screen sends one a second, and every fifth second at the full rate.
    """

    kind = "video"

    def __init__(self, clock, path, rate, still):
        super().__init__()
        with av.open(path) as file:
            self.pictures = [bytes(packet) for packet in file.demux(video=0) if packet.size]
        self.clock, self.rate, self.still, self.sent, self.next = clock, rate, still, 0, 0

    async def recv(self):
        at = self.clock.time(self.next / self.rate)
        await self.clock.due(at)
        packet = av.Packet(self.pictures[self.sent % len(self.pictures)])
        packet.pts, packet.time_base = round(at * 90_000), fractions.Fraction(1, 90_000)
        self.sent += 1
        self.next += self.rate if self.still and (self.next // self.rate) % 5 < 4 else 1
        return packet


class Sound(MediaStreamTrack):
    """A mono 48 kHz WAV file, over and over, encoded by aiortc to Opus, from `begins` on."""

    kind = "audio"
    FRAME = 960

    def __init__(self, clock, path, begins):
        super().__init__()
        with wave.open(path) as file:
            self.samples = numpy.frombuffer(file.readframes(file.getnframes()), numpy.int16)
        self.clock, self.begins, self.sent = clock, begins, 0

    async def recv(self):
        at = self.begins + self.clock.time(self.sent / 48_000)
        await self.clock.due(at)
        piece = self.samples.take(range(self.sent, self.sent + self.FRAME), mode="wrap")
        frame = av.AudioFrame.from_ndarray(piece.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, round(at * 48_000), fractions.Fraction(1, 48_000)
        self.sent += self.FRAME
        return frame


async def publish(asked):
    clock = Clock(asked.pause, asked.together)
    if asked.clock_off:
        right = aiortc.clock.current_datetime
        aiortc.clock.current_datetime = lambda: right() + datetime.timedelta(seconds=asked.clock_off)
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTransceiver(Sound(clock, asked.audio, asked.microphone), direction="sendonly")
    if asked.video:
        sending = peer.addTransceiver(Pictures(clock, asked.video, asked.rate, asked.still), direction="sendonly")
        codecs = RTCRtpSender.getCapabilities("video").codecs
        sending.setCodecPreferences([codec for codec in codecs if codec.mimeType.lower() in (f"video/{asked.codec}", "video/rtx")])

    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)

    @peer.on("connectionstatechange")
    def changed():
        print(peer.connectionState, flush=True)
        if peer.connectionState in ("failed", "closed"):
            ended.set()

    await peer.setLocalDescription(await peer.createOffer())
    authorization = {"authorization": f"Bearer {asked.token}"}
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        headers = {"content-type": "application/sdp", **authorization}
        answer = await http.post(asked.url, content=peer.localDescription.sdp, headers=headers)
        answer.raise_for_status()
        resource = urllib.parse.urljoin(asked.url, answer.headers["location"])
        sdp = answer.text
        if asked.through:
            address, port = asked.through.split(":")
            sdp = re.sub(r"(a=candidate:\S+ 1 udp \d+) \S+ \d+ (typ host)", rf"\1 {address} {port} \2", sdp, flags=re.I)
            sdp = re.sub(r"a=candidate:\S+ 1 tcp .*\r\n", "", sdp, flags=re.I)
        await peer.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        try:
            await asyncio.wait_for(ended.wait(), asked.seconds)
        except TimeoutError:
            pass
        if asked.hang_up:
            await http.delete(resource, headers=authorization)
    await peer.close()


if __name__ == "__main__":
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--url", required=True)
    ask.add_argument("--token", required=True)
    ask.add_argument("--codec", choices=("h264", "vp8"), required=True)
    ask.add_argument("--video", help="H.264 elementary stream, or VP8 in IVF; without it there is sound alone")
    ask.add_argument("--rate", type=int, default=30, help="pictures a second")
    ask.add_argument("--still", action="store_true", help="a still screen: one picture a second, and bursts")
    ask.add_argument("--pause", type=float, nargs=2, help="when to stop sending, and for how long, seconds")
    ask.add_argument("--microphone", type=float, default=0.0, help="when the sound begins, seconds")
    ask.add_argument("--together", action="store_true", help="begin the media at a whole second of the wall clock")
    ask.add_argument("--through", help="ADDRESS:PORT of a road to the server, instead of the server's own")
    ask.add_argument("--clock-off", type=float, default=0.0, help="by how much the wall clock that is told is wrong, seconds")
    ask.add_argument("--audio", required=True, help="mono 48 kHz WAV")
    ask.add_argument("--seconds", type=float, default=3600)
    ask.add_argument("--hang-up", action=argparse.BooleanOptionalAction, default=True)
    asyncio.run(publish(ask.parse_args()))
