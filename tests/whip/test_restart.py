"""RFC 9725 §4.3.3: ICE restarts."""

import asyncio
import re
import time

import pytest

from .client import FRAGMENT, NEW, NEWER, NEWEST, Publisher, attributes, credentials, fragment, offer


@pytest.fixture
def restart(session, optional):
    """Restarts the session's ICE; a server without restarts says 422 (§4.3.1)."""

    def ask(if_match="*", ice=NEW):
        answer = session.patch(fragment(offer(), **ice), if_match=if_match)
        optional(answer.status_code != 422, "ICE restarts (OPTIONAL, §4.4.5)")
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return answer

    return ask


def test_a_restart_is_200_with_a_fragment(restart):
    """§4.3.3: SHALL return a 200 OK with an application/trickle-ice-sdpfrag body."""
    assert restart().headers["content-type"].split(";")[0] == FRAGMENT


def test_a_restart_gives_new_credentials(session, restart):
    """§4.3.3: the body contains the new ICE username fragment and password; RFC 8839 §4.4.1.1.1: both change."""
    before, after = credentials(session.sdp), credentials(restart().text)
    assert before[0] != after[0] and before[1] != after[1]
    assert re.fullmatch(r"[A-Za-z0-9+/]{4,256}", after[0]) and re.fullmatch(r"[A-Za-z0-9+/]{22,256}", after[1])


def test_a_restart_gives_candidates(restart):
    """§4.3.3: and a new set of ICE candidates for the session."""
    body = restart().text
    assert attributes(body, "candidate")
    assert all(len(candidate.split()) >= 8 for candidate in attributes(body, "candidate"))


def test_a_restart_gives_a_new_entity_tag(session, restart):
    """§4.3.3: MUST contain the new entity-tag corresponding to the new ICE session in an ETag header field."""
    tag = restart().headers["etag"]
    assert re.fullmatch(r'"[\x21\x23-\x7e]+"', tag) and tag != session.etag


def test_a_restart_keeps_the_ice_attributes_of_the_answer(session, restart):
    """§4.3.3: bodies MUST include the same ice-options, ice-pacing and ice-lite as the SDP offer or answer."""
    body = restart().text
    for name in ("ice-options", "ice-pacing", "ice-lite"):
        assert attributes(body, name) == attributes(session.sdp, name), name


def test_a_restarts_fragment_is_about_the_bundles_tagged_section(restart):
    """§4.3.3, RFC 8840 §9.2: only the offerer-tagged m= line, with its mid, and no lines but a= and m=."""
    body = restart().text
    assert re.findall(r"^m=(\w+)", body, re.M) == ["audio"]
    assert attributes(body, "mid") == attributes(offer(), "mid")[:1]
    assert all(re.match(r"[am]=", line) for line in body.splitlines()), body


def test_the_old_entity_tag_is_412_after_a_restart_and_the_new_one_is_good(session, restart):
    """§4.3.1: outdated ETags are answered with 412."""
    tag = restart().headers["etag"]
    body = fragment(offer(), **NEW)
    assert session.patch(body, if_match=session.etag).status_code == 412
    assert session.patch(body, if_match=tag).status_code == 204


def test_a_restart_that_names_an_outdated_ice_session_is_412(session, restart):
    """§4.3.1, §4.3.3: a request of a former ICE session that comes late must not undo the present one."""
    tag = restart().headers["etag"]
    assert session.patch(fragment(offer(), **NEWER), if_match=session.etag).status_code == 412
    assert session.patch(fragment(offer(), **NEW), if_match=tag).status_code == 204


def test_of_overlapping_restarts_of_one_ice_session_only_one_is_done(session, restart):
    """§4.3.1: overlapping requests may come in any order: the entity tag decides (RFC 9110 §13.1.1)."""
    tag = restart().headers["etag"]

    async def restart_twice():
        asked = (fragment(offer(), **ice) for ice in (NEWER, NEWEST))
        return await asyncio.gather(*(asyncio.to_thread(session.patch, body, if_match=tag) for body in asked))

    answers = asyncio.run(restart_twice())
    assert sorted(answer.status_code for answer in answers) == [200, 412], answers


def test_the_star_may_be_quoted_as_in_the_rfcs_example(restart):
    """§4.3.3, figure 5: If-Match: "*"."""
    assert restart(if_match='"*"').headers["etag"]


def test_new_credentials_are_a_restart_under_the_current_tag_too(session, restart):
    """§4.3.3: a session receiving updated ice-pwd and ice-ufrag MUST consider the request as performing a restart."""
    assert credentials(restart(if_match=session.etag).text) != credentials(session.sdp)


def test_unchanged_credentials_are_no_restart(session):
    """§4.3.2, §4.3.3: only updated credentials are; others add candidates, answered with 204 and no ETag."""
    answer = session.patch(fragment(offer()), if_match="*")
    assert answer.status_code == 204, (answer.status_code, answer.text)
    assert "etag" not in answer.headers
    assert session.patch(fragment(offer())).status_code == 204, "the tag is still good"


def test_a_restart_without_a_precondition_is_428(session, restart):
    """§4.3.1, §4.3.3: the request MUST contain an If-Match header field."""
    assert session.patch(fragment(offer(), **NEW), if_match=None).status_code == 428
    restart()


def test_each_restart_gives_other_credentials_and_another_tag(restart):
    """§4.3.3: the client MAY perform a new ICE restart."""
    answers = [restart(ice=ice) for ice in (NEW, NEWER, NEWEST)]
    assert len({credentials(answer.text) for answer in answers}) == 3
    assert len({answer.headers["etag"] for answer in answers}) == 3


def test_a_failed_restart_leaves_the_session_as_it_was(session):
    """§4.3.3: an appropriate HTTP error code, and the session MUST NOT be terminated: the existing ICE session is kept."""
    only_new_fragment = fragment(offer(), ufrag=NEW["ufrag"])
    answer = session.patch(only_new_fragment, if_match="*")
    assert 400 <= answer.status_code < 500, answer.status_code
    assert session.patch(fragment(offer())).status_code == 204


def test_a_star_without_credentials_is_no_restart(session):
    """§4.3.3: the client MUST include the updated ice-pwd and ice-ufrag."""
    answer = session.patch("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=end-of-candidates\r\n", if_match="*")
    assert answer.status_code in (204, 400, 422) and "etag" not in answer.headers
    assert session.patch(fragment(offer())).status_code == 204


@pytest.mark.parametrize("times", [1, 3])
def test_media_goes_on_after_a_restart_on_another_path(whip, endpoint, optional, times):
    """§4.3.3: what was negotiated besides ICE still applies: the same DTLS session and SRTP keys, on new sockets."""

    async def publish():
        publisher = Publisher()
        try:
            sdp = await publisher.offer()
            session = await asyncio.to_thread(endpoint.publish, sdp)
            await publisher.take(session.sdp)
            await publisher.until_connected()
            await publisher.until_received(after=0)
            for _ in range(times):
                agent = await publisher.gather_anew()
                body = fragment(
                    sdp,
                    ufrag=agent.local_username,
                    password=agent.local_password,
                    candidates=[candidate.to_sdp() for candidate in agent.local_candidates],
                )
                answer = await asyncio.to_thread(session.patch, body, if_match="*")
                optional(answer.status_code != 422, "ICE restarts (OPTIONAL, §4.4.5)")
                assert answer.status_code == 200, (answer.status_code, answer.text)
                await publisher.move(agent, answer.text)
                await publisher.until_received(after=time.time() + 0.5)
                assert publisher.peer.connectionState == "connected"
            if whip.server:
                await asyncio.to_thread(grows, whip.server, whip.recordings[endpoint.url])
        finally:
            await publisher.close()

    asyncio.run(publish())


def grows(server, recording):
    """The recording goes on: more and more of it can be watched."""
    from server import until

    def watchable():
        folder = f"/v1/recordings/{recording['id']}/hls"
        main = server.http.get(f"{folder}/main.m3u8")
        paths = re.findall(r"^#EXT-X-STREAM-INF:.*\n(\S+)", main.text, re.M) if main.status_code == 200 else []
        playlists = [server.http.get(f"{folder}/{path}").text for path in paths[:1]]
        return sum(map(float, re.findall(r"#EXTINF:([\d.]+)", "".join(playlists))))

    before = watchable()
    until(lambda: watchable() >= before + 4, 60, "the recording to grow after the restart")
