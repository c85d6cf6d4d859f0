"""A WHIP client, as strict or as wrong as a test wants it. What an answer means is judged by aiortc."""

import asyncio
import functools
import re
import time
import urllib.parse

import aioice
import httpx
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack
from aiortc.sdp import SessionDescription

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
BOTH = ("audio", "video")


class Endpoint:
    """A WHIP endpoint URL with its token, and the sessions made there."""

    def __init__(self, url, token, http):
        self.url, self.token, self.http, self.sessions = url, token, http, []

    def ask(self, method, url=None, content=None, token=None, follow=False, **headers):
        """One request; `token=''` sends none. Underscores in header names are hyphens, a header of None is not sent."""
        token = self.token if token is None else token
        fields = [(name.replace("_", "-"), value) for name, value in headers.items() if value is not None]
        fields += [("authorization", f"Bearer {token}")] if token else []
        return self.http.request(method, url or self.url, content=content, headers=fields, follow_redirects=follow)

    def post(self, sdp, content_type=SDP, **more):
        answer = self.ask("POST", content=sdp, content_type=content_type, **more)
        if answer.status_code == 201:
            self.sessions.append(Session(self, answer))
        return answer

    def publish(self, sdp=None):
        """The session that an offer makes."""
        answer = self.post(sdp or offer())
        assert answer.status_code == 201, (answer.status_code, answer.text)
        return self.sessions[-1]


class Session:
    """A WHIP session."""

    def __init__(self, endpoint, answer):
        self.endpoint, self.answer, self.sdp = endpoint, answer, answer.text
        self.url = urllib.parse.urljoin(str(answer.url), answer.headers.get("location", ""))
        self.etag = answer.headers.get("etag")

    def patch(self, content, if_match="current", content_type=FRAGMENT, **more):
        """`if_match` of 'current' is the session's own entity tag, None sends none."""
        if_match = self.etag if if_match == "current" else if_match
        return self.endpoint.ask(
            "PATCH", self.url, content=content, content_type=content_type, if_match=if_match, **more
        )

    def delete(self, **more):
        return self.endpoint.ask("DELETE", self.url, **more)

    def parsed(self):
        """The answer, as aiortc reads it."""
        return SessionDescription.parse(self.sdp)


def plain_offer(kinds=BOTH, direction="sendonly"):
    """A real offer by aiortc, with all its candidates; nobody is behind it any more."""

    async def make():
        peer = new_peer()
        for kind in kinds:
            peer.addTransceiver(kind, direction=direction)
        await peer.setLocalDescription(await peer.createOffer())
        sdp = peer.localDescription.sdp
        await peer.close()
        return sdp

    return asyncio.run(make())


offer = functools.cache(plain_offer)


def new_peer():
    # Not MAX_BUNDLE: with it aiortc takes the last section's candidates only, and an answer has them in the first.
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


def attributes(sdp, name):
    """The values of each `a=name` line."""
    return [found.strip() for found in re.findall(rf"^a={re.escape(name)}(?::(.*))?\r?$", sdp, re.M)]


def sections(sdp):
    """The text of each media section."""
    return re.split(r"^(?=m=)", sdp, flags=re.M)[1:]


def credentials(sdp):
    """The first ufrag and password of an offer, an answer or a fragment."""
    return attributes(sdp, "ice-ufrag")[0], attributes(sdp, "ice-pwd")[0]


def fragment(sdp, ufrag=None, password=None, candidates=None, end=True):
    """A trickled fragment for an offer: RFC 8840 §9, about the offerer-tagged section of its bundle."""
    own = credentials(sdp)
    section = sections(sdp)[0]
    lines = [f"a=group:{group}" for group in attributes(sdp, "group")]
    lines += [section.splitlines()[0].strip(), f"a=mid:{attributes(section, 'mid')[0]}"]
    lines += [f"a=ice-ufrag:{ufrag or own[0]}", f"a=ice-pwd:{password or own[1]}"]
    found = attributes(section, "candidate") if candidates is None else candidates
    lines += [f"a=candidate:{candidate}" for candidate in found]
    lines += ["a=end-of-candidates"] if end else []
    return "".join(f"{line}\r\n" for line in lines)


def without_candidates(sdp):
    """An offer of a client that trickles all of its candidates."""
    return re.sub(r"^a=(candidate:.*|end-of-candidates)\r?\n", "", sdp, flags=re.M)


NEW = {"ufrag": "ysXw", "password": "vw5LmwG4y/e6dPP/zAP9Gp5k"}
NEWER = {"ufrag": "Q7pa", "password": "k2D0bUr1mUo+9Lw5xJc/Tz3e"}
NEWEST = {"ufrag": "hh3R", "password": "Yp8s+Qe2VnT6Lm/4ZbWd0KcX"}


class Publisher:
    """An aiortc publisher of a picture and a tone of silence, which can restart its ICE."""

    def __init__(self):
        self.peer = new_peer()
        self.senders = [self.peer.addTransceiver(track, direction="sendonly").sender for track in (AudioStreamTrack(), VideoStreamTrack())]

    async def offer(self):
        await self.peer.setLocalDescription(await self.peer.createOffer())
        return self.peer.localDescription.sdp

    async def take(self, answer):
        await self.peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def until_connected(self, seconds=20):
        await until(lambda: self.peer.connectionState == "connected", seconds, "the publisher to connect")

    async def until_received(self, after, seconds=30):
        """Waits for a receiver report newer than `after` (seconds since the epoch) on each track."""

        async def reported():
            for sender in self.senders:
                reports = [it for it in (await sender.getStats()).values() if it.type == "remote-inbound-rtp"]
                if not any(it.timestamp.timestamp() > after for it in reports):
                    return False
            return True

        deadline = time.monotonic() + seconds
        while not await reported():
            assert time.monotonic() < deadline, "no receiver report says that media arrives"
            await asyncio.sleep(0.2)

    @property
    def ice(self):
        return self.senders[0].transport.transport

    async def gather_anew(self):
        """A new ICE agent, on new sockets with new credentials: what a client restarts with."""
        agent = aioice.Connection(ice_controlling=True)
        await agent.gather_candidates()
        return agent

    async def move(self, agent, answer):
        """Completes the restart with the server's fragment, and puts DTLS and SRTP on the new path."""
        parsed = credentials(answer)
        agent.remote_username, agent.remote_password = parsed
        agent.remote_is_lite = "a=ice-lite" in answer
        for candidate in attributes(answer, "candidate"):
            await agent.add_remote_candidate(aioice.Candidate.from_sdp(candidate))
        await agent.add_remote_candidate(None)
        old, ice = self.ice._connection, self.ice
        agent._queue = old._queue  # whoever waits for the next datagram goes on waiting
        await asyncio.wait_for(agent.connect(), 20)
        ice._connection, ice._send, ice._recv = agent, agent.send, agent.recv
        ice._RTCIceTransport__monitor_task.cancel()
        ice._RTCIceTransport__monitor_task = asyncio.ensure_future(ice._monitor())
        old._queue = asyncio.Queue()
        await old.close()

    async def close(self):
        await self.peer.close()


async def until(happened, seconds, what):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        await asyncio.sleep(0.05)


def links(response, relation):
    """The `Link` fields with this relation, as (target, parameters): RFC 8288 §3."""
    found = []
    for value in response.headers.get_list("link"):
        for target, rest in re.findall(r'<([^>]*)>((?:\s*;\s*[\w-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]+))*)', value):
            pairs = re.findall(r'([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))', rest)
            parameters = {name.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain for name, quoted, plain in pairs}
            if parameters.get("rel") == relation:
                found.append((target, parameters))
    return found


def http_client():
    return httpx.Client(timeout=30, trust_env=False)
