"""Bad input: each gives the right answer with a sentence that helps, and nothing else is disturbed."""

import asyncio

import pytest

import judges
import material
from conftest import watchable
from server import problem, until

AUDIO_AND_VIDEO = ("audio", "video")


def offer(kinds=AUDIO_AND_VIDEO, edit=lambda sdp: sdp):
    """A real offer by aiortc, edited."""
    from aiortc import RTCConfiguration, RTCPeerConnection

    async def make():
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        for kind in kinds:
            peer.addTransceiver(kind, direction="sendonly")
        if not kinds:
            peer.createDataChannel("nothing to see")
        await peer.setLocalDescription(await peer.createOffer())
        sdp = peer.localDescription.sdp
        await peer.close()
        return sdp

    return edit(asyncio.run(make()))


def foreign_codecs(sdp):
    for name in ("VP8", "H264", "opus", "rtx", "PCMU", "PCMA", "G722"):
        sdp = sdp.replace(f" {name}/", f" X-{name}/")
    # Payload types below 96 need no rtpmap (RFC 3551 §6): leave none that could be known by its number.
    return sdp.replace(" 0 8", "").replace(" 9 0 8", "").replace(" 9\r\n", "\r\n")


@pytest.mark.parametrize(
    "sdp, content_type, statuses, word",
    [
        (lambda: "this is no session description", "application/sdp", (400,), "sdp"),
        (lambda: "", "application/sdp", (400,), "offer"),
        (lambda: offer(kinds=()), "application/sdp", (400, 406, 422), "audio"),
        (lambda: offer(edit=foreign_codecs), "application/sdp", (400, 406, 415, 422), "codec"),
        (lambda: offer(), "text/plain", (415,), "application/sdp"),
    ],
    ids=["no-sdp", "empty", "no-media", "unknown-codecs", "wrong-type"],
)
def test_a_bad_offer_is_refused_and_the_recording_stays_usable(server, sdp, content_type, statuses, word):
    recording = server.create()
    answer = server.publish(recording, sdp(), content_type=content_type)
    assert answer.status_code in statuses, (answer.status_code, answer.text)
    assert word in problem(answer).lower(), answer.text
    assert server.show(recording)["state"] == "created"
    assert server.publish(recording, offer()).status_code == 201


@pytest.mark.parametrize("token", ["", "wrong", "00" * 32], ids=["missing", "wrong", "as-long"])
def test_a_missing_or_wrong_token_is_refused(server, token):
    recording = server.create()
    answer = server.publish(recording, offer(), token=token)
    assert answer.status_code == 401, answer.text
    assert "token" in problem(answer)
    assert server.show(recording)["state"] == "created"


def test_a_recording_that_is_not_there_is_said_to_be_missing(server):
    for method, path in [("GET", ""), ("POST", "/stop"), ("DELETE", ""), ("GET", "/hls/main.m3u8"), ("GET", "/events")]:
        answer = server.http.request(method, f"/v1/recordings/nothing-here{path}")
        assert answer.status_code == 404, (method, path, answer.status_code)
        assert problem(answer)


@pytest.mark.slow
def test_a_second_publisher_who_sends_nothing_disturbs_nobody(server, publish, growing):
    recording = server.create()
    first = publish(recording)
    growing(recording, 2)
    # It may be the same one, after it lost its connection: it is let in, and takes over once its media comes.
    answer = server.publish(recording, offer())
    assert answer.status_code == 201, answer.text
    before = watchable(server, recording)
    until(lambda: watchable(server, recording) > before + 2, 60, "the first publisher's recording to grow")
    first.end()
    ready = server.until_state(recording, "ready")
    assert not ready.get("gaps"), ready
    judges.check_finished(server, ready)
    answer = server.publish(recording, offer())
    assert answer.status_code == 409, answer.text
    assert "publisher" in problem(answer)


def text():
    return b"Dear diary, this is no film.\n" * 200


def cut_short():
    film = material.film_mp4().read_bytes()
    # Its index (moov) may stand at the end or at the start: either way the half does not hold together.
    return film[: len(film) // 50]


@pytest.mark.parametrize("content, kind", [(text, "video/mp4"), (lambda: b"", "video/mp4"), (cut_short, "video/mp4")], ids=["text", "empty", "truncated"])
def test_an_upload_that_is_no_film_fails_with_a_sentence(server, content, kind):
    recording = server.create()
    answer = server.upload(recording, content(), kind)
    if answer.status_code == 202:
        failed = server.until_state(recording, "failed")
        sentence = failed["reason"]
    else:
        assert answer.status_code in (400, 415, 422), (answer.status_code, answer.text)
        sentence = problem(answer)
    print(sentence)
    assert len(sentence.split()) >= 4, sentence
    assert "/data/" not in sentence, "the server's own paths are nobody's business"
    assert server.http.get("/healthz").status_code == 200


def test_an_upload_of_another_kind_is_refused(server):
    recording = server.create()
    answer = server.upload(recording, b"%PDF-1.7", "application/pdf")
    assert answer.status_code == 415, answer.text
    assert "mp4" in problem(answer).lower()


def test_a_recording_that_never_connects_fails_with_a_reason(server):
    recording = server.create()
    assert server.publish(recording, offer()).status_code == 201
    failed = server.until_state(recording, "failed", seconds=90)
    assert len(failed["reason"].split()) >= 4, failed["reason"]
