"""A WHIP publisher by aiortc, as a process of its own: it can be ended politely, or killed.

Prints `connected` once media flows. On SIGTERM or after --seconds it deletes its WHIP resource and ends.
"""

import argparse
import asyncio
import fractions
import signal
import time
import urllib.parse
import wave

import av
import httpx
import numpy
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription


class Clock:
    """When media time 0 was; one for both tracks, so that what belongs together is sent together."""

    begun = None

    async def due(self, seconds):
        self.begun = self.begun or time.monotonic()
        await asyncio.sleep(max(0.0, self.begun + seconds - time.monotonic()))


class Pictures(MediaStreamTrack):
    """A file's encoded pictures, sent as they are, over and over."""

    kind = "video"

    def __init__(self, clock, path, rate):
        super().__init__()
        with av.open(path) as file:
            self.pictures = [bytes(packet) for packet in file.demux(video=0) if packet.size]
        self.clock, self.rate, self.sent = clock, rate, 0

    async def recv(self):
        await self.clock.due(self.sent / self.rate)
        packet = av.Packet(self.pictures[self.sent % len(self.pictures)])
        packet.pts, packet.time_base = self.sent, fractions.Fraction(1, self.rate)
        self.sent += 1
        return packet


class Sound(MediaStreamTrack):
    """A mono 48 kHz WAV file, over and over, encoded by aiortc to Opus."""

    kind = "audio"
    FRAME = 960

    def __init__(self, clock, path):
        super().__init__()
        with wave.open(path) as file:
            self.samples = numpy.frombuffer(file.readframes(file.getnframes()), numpy.int16)
        self.clock, self.sent = clock, 0

    async def recv(self):
        await self.clock.due(self.sent / 48_000)
        piece = self.samples.take(range(self.sent, self.sent + self.FRAME), mode="wrap")
        frame = av.AudioFrame.from_ndarray(piece.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, self.sent, fractions.Fraction(1, 48_000)
        self.sent += self.FRAME
        return frame


async def publish(asked):
    clock = Clock()
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTransceiver(Sound(clock, asked.audio), direction="sendonly")
    sending = peer.addTransceiver(Pictures(clock, asked.video, asked.rate), direction="sendonly")
    codecs = RTCRtpSender.getCapabilities("video").codecs
    sending.setCodecPreferences([codec for codec in codecs if codec.mimeType.lower() == f"video/{asked.codec}"])

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
        await peer.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
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
    ask.add_argument("--video", required=True, help="H.264 elementary stream, or VP8 in IVF")
    ask.add_argument("--rate", type=int, required=True, help="pictures a second")
    ask.add_argument("--audio", required=True, help="mono 48 kHz WAV")
    ask.add_argument("--seconds", type=float, default=3600)
    ask.add_argument("--hang-up", action=argparse.BooleanOptionalAction, default=True)
    asyncio.run(publish(ask.parse_args()))
