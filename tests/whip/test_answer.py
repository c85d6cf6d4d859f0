"""RFC 9725 §4.3.2 and §4.4: what an answer must have, as aiortc reads it."""

import ipaddress
import re

import pytest

from .client import attributes, offer, sections


def test_the_answer_is_taken_by_a_webrtc_stack(session):
    """§4.2: an SDP answer according to the JSEP rules for an initial answer (RFC 9429 §5.3.1)."""
    parsed = session.parsed()
    assert [media.kind for media in parsed.media] == ["audio", "video"]
    assert all(media.port != 0 for media in parsed.media), "§4.4.3: no m= section is rejected"
    assert all(media.rtp.codecs for media in parsed.media)


def test_all_media_is_in_one_bundle(session):
    """§4.4.1: both SHALL support RFC 9143 and use the max-bundle policy."""
    parsed = session.parsed()
    bundles = [group for group in parsed.group if group.semantic == "BUNDLE"]
    assert [group.items for group in bundles] == [[media.rtp.muxId for media in parsed.media]]


def test_rtp_and_rtcp_share_a_port(session):
    """§4.4.1: RTP/RTCP multiplexing for all bundled media (RFC 5761)."""
    assert all(media.rtcp_mux for media in session.parsed().media)


def test_each_section_says_that_rtp_and_rtcp_only_ever_share_a_port(session):
    """§4.4.1: endpoints MUST include the rtcp-mux-only attribute in each bundled m= section (RFC 8858 §3)."""
    assert all(attributes(section, "rtcp-mux-only") for section in sections(session.sdp))


def test_the_answer_has_all_candidates_of_the_media_server(session):
    """§4.3.2: the SDP answer SHALL contain the full list of ICE candidates of the media server."""
    candidates = attributes(session.sdp, "candidate")
    assert candidates
    for candidate in candidates:
        fields = candidate.split()
        assert len(fields) >= 8 and fields[6] == "typ", candidate
        ipaddress.ip_address(fields[4])
        assert 0 < int(fields[5]) < 65536
    assert len(set(candidates)) == len(candidates), "a candidate is listed twice"


def test_no_more_candidates_are_promised(session):
    """§4.3.2: the session cannot signal more candidates after the answer (RFC 8838 §8.2: it may say so)."""
    assert attributes(session.sdp, "end-of-candidates")


def test_the_answer_has_credentials_for_ice_and_they_differ_from_session_to_session(whip):
    """RFC 8839 §5.4: ice-ufrag of 4 to 256, ice-pwd of 22 to 256 ice-chars; RFC 8445 §5.3: unpredictable."""
    seen = set()
    for _ in range(3):
        session = whip.endpoint().publish()
        media = session.parsed().media[0]
        fragment, password = media.ice.usernameFragment, media.ice.password
        assert re.fullmatch(r"[A-Za-z0-9+/]{4,256}", fragment), fragment
        assert re.fullmatch(r"[A-Za-z0-9+/]{22,256}", password), password
        seen |= {fragment, password}
    assert len(seen) == 6


def test_the_answer_has_the_fingerprint_of_its_certificate(session):
    """RFC 8842 §5.3, RFC 8122 §5: a fingerprint of a hash that is still good."""
    for media in session.parsed().media[:1]:
        assert any(it.algorithm.lower() == "sha-256" and len(it.value) == 95 for it in media.dtls.fingerprints)


def setups(sdp):
    return set(attributes(sdp, "setup"))


def test_one_side_opens_the_dtls_session(session):
    """§4.4.4, RFC 8842 §5.3: the answer to actpass is active or passive."""
    found = setups(session.sdp)
    assert len(found) == 1 and found <= {"active", "passive"}, found


def test_a_client_that_is_only_a_dtls_client_is_served_or_refused(endpoint, optional):
    """§4.4.4: an offer of setup:active is answered with passive, or SHOULD be rejected with 422 or 400."""
    answer = endpoint.post(offer().replace("a=setup:actpass", "a=setup:active"))
    optional(answer.status_code == 201 or answer.status_code not in (400, 422), "clients that are DTLS clients only")
    assert answer.status_code == 201, answer.status_code
    assert setups(answer.text) == {"passive"}


@pytest.mark.parametrize("kinds", [("audio", "video"), ("video", "audio")], ids=["audio-first", "video-first"])
def test_sections_come_back_in_their_order_with_their_names(endpoint, kinds):
    """RFC 9429 §5.3.1: an m= section for each of the offer's, in its order, with its mid."""
    session = endpoint.publish(offer(kinds))
    assert [media.kind for media in session.parsed().media] == list(kinds)
    assert attributes(session.sdp, "mid") == attributes(offer(kinds), "mid")


def foreign_video(sdp):
    head, audio, video = re.split(r"^(?=m=)", sdp, flags=re.M)
    return head + audio + re.sub(r"^(a=rtpmap:\d+ )", r"\1X-", video, flags=re.M)


def test_an_offer_of_which_one_part_cannot_be_taken_is_refused_whole(endpoint):
    """§4.4.3: SHOULD NOT reject individual m= sections, but reject the POST with 422 or 400."""
    answer = endpoint.post(foreign_video(offer()))
    assert answer.status_code in (400, 422), (answer.status_code, answer.text)


def test_two_tracks_of_a_kind_are_taken_or_refused_whole(endpoint):
    """§4.4.2: where the number of tracks is not supported, the POST MUST be rejected with 422 or 400."""
    answer = endpoint.post(offer(("audio", "video", "video")))
    assert answer.status_code in (201, 400, 422), (answer.status_code, answer.text)
    if answer.status_code == 201:
        media = endpoint.sessions[-1].parsed().media
        assert [it.direction for it in media] == ["recvonly"] * 3 and all(it.port for it in media)


SIMULCAST = (
    "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n"
    "a=rid:h send\r\na=rid:l send\r\na=simulcast:send h;l\r\n"
)


def with_simulcast(sdp):
    lines = []
    for section in re.split(r"^(?=m=)", sdp, flags=re.M):
        if section.startswith("m=video"):
            section = re.sub(r"^a=(ssrc|ssrc-group|extmap:10 ).*\r?\n", "", section, flags=re.M) + SIMULCAST
        lines.append(section)
    return "".join(lines)


def test_an_offer_of_simulcast_is_answered_by_its_rules(endpoint, optional):
    """§4.8: a server accepting a simulcast offer MUST create an answer as in RFC 8853 §5.3.2."""
    session = endpoint.publish(with_simulcast(offer()))
    video = sections(session.sdp)[1]
    optional(bool(attributes(video, "simulcast")), "simulcast")
    direction, streams = attributes(video, "simulcast")[0].split(" ", 1)
    assert direction == "recv"
    named = [stream.lstrip("~") for stream in re.split("[;,]", streams)]
    assert set(named) <= {"h", "l"}
    assert {rid.split()[0] for rid in attributes(video, "rid") if rid.split()[1] == "recv"} == set(named)
