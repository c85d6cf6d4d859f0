"""A WHIP publisher by aiortc that encodes as it goes and says what it sent.

Once a second the picture is white for 100 ms and a 1 kHz tone sounds with it. Answers key-frame requests and
retransmission requests as aiortc does. After --seconds it deletes its WHIP resource and prints what it counted as JSON.
"""

import argparse
import asyncio
import fractions
import json
import time
import urllib.parse

import av
import httpx
import numpy
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RTCP_PSFB_PLI, RTCP_RTPFB_NACK, RtcpPsfbPacket, RtcpRtpfbPacket


class Clock:
    """When media time 0 was; one for both tracks."""

    begun = None

    def __init__(self, seconds):
        self.seconds = seconds

    async def due(self, at):
        if at >= self.seconds:
            raise MediaStreamError
        self.begun = self.begun or time.monotonic()
        await asyncio.sleep(max(0.0, self.begun + at - time.monotonic()))


class Flashes(MediaStreamTrack):
    """White for a tenth of each second, dark else, with a square that moves."""

    kind = "video"
    WIDTH, HEIGHT = 320, 240

    def __init__(self, clock, rate):
        super().__init__()
        self.clock, self.rate, self.sent = clock, rate, 0

    async def recv(self):
        at = self.sent / self.rate
        await self.clock.due(at)
        luma = numpy.full((self.HEIGHT * 3 // 2, self.WIDTH), 128, numpy.uint8)
        luma[: self.HEIGHT] = 235 if at % 1.0 < 0.1 else 30
        left = self.sent * 5 % (self.WIDTH - 32)
        luma[100:132, left : left + 32] = 160
        frame = av.VideoFrame.from_ndarray(luma, format="yuv420p")
        frame.pts, frame.time_base = int(at * 90_000), fractions.Fraction(1, 90_000)
        self.sent += 1
        return frame


class Beeps(MediaStreamTrack):
    """A tone for a tenth of each second."""

    kind = "audio"
    FRAME = 960

    def __init__(self, clock):
        super().__init__()
        self.clock, self.sent = clock, 0

    async def recv(self):
        await self.clock.due(self.sent / 48_000)
        at = (self.sent + numpy.arange(self.FRAME)) / 48_000
        tone = numpy.where(at % 1.0 < 0.1, numpy.sin(2 * numpy.pi * 1_000 * at) * 12_000, 0).astype(numpy.int16)
        frame = av.AudioFrame.from_ndarray(tone.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, self.sent, fractions.Fraction(1, 48_000)
        self.sent += self.FRAME
        return frame


class Requests:
    """What a sender is asked for, counted on its way."""

    def __init__(self, sender):
        self.retransmissions = self.distinct = self.key_frames = 0
        self.asked, self.handle = {}, sender._handle_rtcp_packet
        sender._handle_rtcp_packet = self.take

    async def take(self, packet):
        if isinstance(packet, RtcpRtpfbPacket) and packet.fmt == RTCP_RTPFB_NACK:
            self.retransmissions += len(packet.lost)
            for sequence in packet.lost:
                # a number comes again every 65,536 packets
                if time.monotonic() - self.asked.get(sequence, -1e9) > 10:
                    self.distinct += 1
                self.asked[sequence] = time.monotonic()
        elif isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_PLI:
            self.key_frames += 1
        await self.handle(packet)

    def told(self):
        return {"asked": self.retransmissions, "asked_distinct": self.distinct, "key_frames_asked": self.key_frames}


async def publish(asked):
    clock = Clock(asked.seconds)
    pictures, sound = Flashes(clock, asked.rate), Beeps(clock)
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    hearing = peer.addTransceiver(sound, direction="sendonly")
    seeing = peer.addTransceiver(pictures, direction="sendonly")
    codecs = RTCRtpSender.getCapabilities("video").codecs
    seeing.setCodecPreferences([codec for codec in codecs if codec.mimeType.lower() in (f"video/{asked.codec}", "video/rtx")])
    video, audio = Requests(seeing.sender), Requests(hearing.sender)

    await peer.setLocalDescription(await peer.createOffer())
    authorization = {"authorization": f"Bearer {asked.token}"}
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        headers = {"content-type": "application/sdp", **authorization}
        answer = await http.post(asked.url, content=peer.localDescription.sdp, headers=headers)
        answer.raise_for_status()
        resource = urllib.parse.urljoin(asked.url, answer.headers["location"])
        await peer.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        deadline = time.monotonic() + asked.seconds + 15
        while time.monotonic() < deadline and peer.connectionState not in ("failed", "closed"):
            if clock.begun and time.monotonic() > clock.begun + asked.seconds + 1:
                break
            await asyncio.sleep(0.2)
        state = peer.connectionState
        stats = [it for it in (await peer.getStats()).values() if it.type == "outbound-rtp"]
        await http.delete(resource, headers=authorization)
    await peer.close()
    packets = {it.kind: it.packetsSent for it in stats}
    told = {"state": state, "frames": pictures.sent, "seconds": asked.seconds, "packets": packets}
    print(json.dumps(told | {"video": video.told(), "audio": audio.told()}), flush=True)


if __name__ == "__main__":
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--url", required=True)
    ask.add_argument("--token", required=True)
    ask.add_argument("--codec", choices=("h264", "vp8"), default="h264")
    ask.add_argument("--rate", type=int, default=30, help="pictures a second")
    ask.add_argument("--seconds", type=float, default=60)
    asyncio.run(publish(ask.parse_args()))
