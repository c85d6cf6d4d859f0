"""The peers that a bench is run against: a WHIP receiver of aiortc, and ffmpeg's HLS."""

import asyncio
import contextlib
import json
import pathlib
import signal
import sys
import tempfile
import time

import numpy
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription


class AiortcReceiver:
    """`python peers.py`, a process of its own: answers any POST as WHIP and tells when the first picture was decoded."""

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        self.url = json.loads(await self.process.stdout.readline())["url"]
        return self

    async def __aexit__(self, *_):
        self.process.terminate()
        await self.process.wait()

    async def first_picture(self):
        """(when the offer came, when the first picture was decoded)"""
        told = json.loads(await asyncio.wait_for(self.process.stdout.readline(), 20))
        return told["offered"], told["decoded"]


class FfmpegHls:
    """ffmpeg making HLS of an H.264 film in real time: the picture as it came and a 360p rung, segments of 2 s."""

    def __init__(self, film):
        self.film = film

    async def __aenter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="loom-bench-ffmpeg-")
        command = f"""ffmpeg -v error -y -re -i {self.film} -map 0:v -map 0:v -c:v:0 copy
            -c:v:1 libx264 -preset:v:1 superfast -tune:v:1 zerolatency -s:v:1 640x360 -g:v:1 60 -f hls -hls_time 2
            -hls_playlist_type event -hls_segment_type fmp4 -var_stream_map v:0,name:source^v:1,name:360p
            -master_pl_name main.m3u8 -hls_fmp4_init_filename init.mp4 {self.folder.name}/%v/index.m3u8"""
        words = [word.replace("^", " ") for word in command.split()]
        self.process = await asyncio.create_subprocess_exec(*words)
        return self

    async def stop(self):
        """Seconds from SIGINT to both playlists complete and ffmpeg gone."""
        begun = time.time()
        self.process.send_signal(signal.SIGINT)
        await self.process.wait()
        for name in ("source", "360p"):
            assert "#EXT-X-ENDLIST" in pathlib.Path(self.folder.name, name, "index.m3u8").read_text()
        return time.time() - begun

    async def __aexit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.folder.cleanup()


class ClockByFfmpeg:
    """ffmpeg making plain HLS (segments of 2 s) of the clock that clock.html draws, fed as raw pictures."""

    WIDTH, HEIGHT, RATE = 640, 360, 30

    async def __aenter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="loom-bench-ffmpeg-")
        command = f"""ffmpeg -v error -y -f rawvideo -pix_fmt gray -s {self.WIDTH}x{self.HEIGHT} -r {self.RATE} -i -
            -c:v libx264 -preset superfast -tune zerolatency -pix_fmt yuv420p -g {2 * self.RATE} -f hls -hls_time 2
            -hls_segment_type fmp4 -hls_flags independent_segments {self.folder.name}/index.m3u8"""
        self.process = await asyncio.create_subprocess_exec(*command.split(), stdin=asyncio.subprocess.PIPE)
        self.feeding = asyncio.create_task(self.feed())
        return self

    async def feed(self):
        begun = time.time()
        count = 0
        while True:
            await asyncio.sleep(max(0, begun + count / self.RATE - time.time()))
            bits = clock_bits(int(time.time() * 1000)).reshape(4, 13) * 255
            face = numpy.full((self.HEIGHT, self.WIDTH), 128, numpy.uint8)
            columns = numpy.arange(self.WIDTH) * 13 // self.WIDTH
            rows = numpy.arange(self.HEIGHT * 2 // 3) * 4 // (self.HEIGHT * 2 // 3)
            face[: len(rows)] = bits[rows][:, columns]
            self.process.stdin.write(face.tobytes())
            await self.process.stdin.drain()
            count += 1

    async def listed(self):
        """Returns once the first segment is listed."""
        while not pathlib.Path(self.folder.name, "index.m3u8").exists():
            await asyncio.sleep(0.02)

    async def __aexit__(self, *_):
        self.feeding.cancel()
        self.process.kill()
        await self.process.wait()
        self.folder.cleanup()


def clock_bits(millis):
    """44 bits of time and 8 that check them, as clock.html has them."""
    bits = [int(bit) for bit in f"{millis:044b}"]
    check = [0] * 8
    for i, bit in enumerate(bits):
        check[i % 8] ^= bit ^ (i & 1)
    return numpy.array(bits + check, numpy.uint8)


async def receive():
    peers = set()

    async def serve(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        offer = (await reader.readexactly(length)).decode()
        offered = time.time()
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peers.add(peer)

        @peer.on("track")
        def _(track):
            if track.kind == "video":
                tasks.append(asyncio.ensure_future(watch(track)))

        async def watch(track):
            await track.recv()
            print(json.dumps({"offered": offered, "decoded": time.time()}), flush=True)
            await asyncio.sleep(1)
            peers.discard(peer)
            await peer.close()

        await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        body = peer.localDescription.sdp.encode()
        head = f"HTTP/1.1 201 Created\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Location: /session\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    tasks = []
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http://127.0.0.1:{port}/whip"}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(receive())
