"""RFC 9725 §4.3.1 and §4.3.2: trickled candidates."""

import asyncio
import re

import pytest

from .client import FRAGMENT, SDP, Publisher, fragment, offer, sections, without_candidates


def test_the_first_entity_tag_is_in_the_201(session):
    """§4.3.1: the initial entity-tag MUST be returned in an ETag header field; it is a strong one (RFC 9110 §8.8.3)."""
    assert re.fullmatch(r'"[\x21\x23-\x7e]+"', session.etag), session.etag


def test_entity_tags_are_unique(whip):
    """§4.3.1: a unique strong entity-tag identifying the ICE session."""
    assert len({whip.endpoint().publish().etag for _ in range(4)}) == 4


def test_trickled_candidates_are_204_without_a_body_and_without_a_tag(session):
    """§4.3.2: MUST return 204 No Content without a body and MUST NOT include an ETag header."""
    answer = session.patch(fragment(offer()))
    assert answer.status_code == 204, answer.text
    assert answer.content == b"" and "etag" not in answer.headers


def test_the_end_of_candidates_alone_can_be_told(session):
    """§4.3.2, RFC 8840 §4.4: end-of-candidates."""
    assert session.patch(fragment(offer(), candidates=[])).status_code == 204


def test_candidates_can_be_told_again(session):
    """§4.3.2: the client MAY exclude candidates that were confirmed, and so need not."""
    body = fragment(offer(), end=False)
    assert [session.patch(body).status_code for _ in range(3)] == [204] * 3


@pytest.mark.parametrize(
    "candidate",
    [
        "1 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active",
        "2 1 sctp 1518280447 192.0.2.1 9 typ host",
        "3 1 udp 2122260223 8b5a1e0c-4f0e-4a4e-8e1d-5b0b1c0f3c55.local 61764 typ host",
        "4 1 udp 2122260223 nowhere.invalid 61764 typ host",
        "5 1 udp 2122260223 2001:db8::1 61764 typ host generation 0 network-id 1",
    ],
    ids=["tcp", "sctp", "mdns", "unresolvable", "ipv6"],
)
def test_a_candidate_that_is_no_use_is_passed_over_in_silence(session, candidate):
    """§4.3.2: an unsupported transport or an unresolvable address MUST be silently discarded, the rest processed."""
    body = fragment(offer(), candidates=[candidate, "9 1 udp 2122260223 192.0.2.9 61764 typ host"])
    assert session.patch(body).status_code == 204


@pytest.mark.parametrize("content_type", [SDP, "text/plain", None])
def test_a_patch_of_another_type_is_refused(session, content_type):
    """§4.3.1: a content type other than application/trickle-ice-sdpfrag MUST be rejected with 4XX; RFC 9110 §15.5.16: 415."""
    assert session.patch(fragment(offer()), content_type=content_type).status_code == 415


@pytest.mark.parametrize(
    "body",
    ["", "Dear server", '{"candidate": ""}', "a=candidate:1 1 udp\r\n", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n", "a=ice-ufrag:x\r\n"],
    ids=["empty", "prose", "json", "half-a-candidate", "whole-sdp", "short-ufrag"],
)
def test_a_malformed_fragment_is_refused_and_the_session_goes_on(session, body):
    """§4.3.1: where the SDP fragment is malformed, the session MUST reject the PATCH with an appropriate 4XX."""
    answer = session.patch(body)
    assert 400 <= answer.status_code < 500, answer.status_code
    assert session.patch(fragment(offer())).status_code == 204


def test_a_fragment_beyond_all_measure_is_refused(session):
    """RFC 9110 §15.5.14: 413."""
    assert session.patch(fragment(offer()) + "a=padding:x\r\n" * 100_000).status_code == 413


def test_a_missing_entity_tag_is_428(session):
    """§4.3.1: 428 Precondition Required for a missing entity tag (RFC 6585 §3)."""
    assert session.patch(fragment(offer()), if_match=None).status_code == 428


@pytest.mark.parametrize("tag", ['"another"', '""', '"one", "two"'])
def test_another_entity_tag_is_412(session, tag):
    """§4.3.1: 412 Precondition Failed for a non-matching entity tag (RFC 9110 §13.1.1)."""
    assert session.patch(fragment(offer()), if_match=tag).status_code == 412


def test_a_weak_entity_tag_never_matches(session):
    """RFC 9110 §13.1.1: If-Match MUST use the strong comparison."""
    assert session.patch(fragment(offer()), if_match=f"W/{session.etag}").status_code == 412


def test_one_of_several_entity_tags_may_match(session):
    """RFC 9110 §13.1.1: If-Match is a list."""
    assert session.patch(fragment(offer()), if_match=f'"another", {session.etag}').status_code == 204


def test_overlapping_patches_are_all_answered(session):
    """§4.3.1: the client MAY send overlapping PATCH requests to one session."""

    async def patch_all():
        return await asyncio.gather(*(asyncio.to_thread(session.patch, fragment(offer())) for _ in range(12)))

    assert [answer.status_code for answer in asyncio.run(patch_all())] == [204] * 12


def test_a_publisher_that_trickles_all_of_its_candidates_connects(endpoint):
    """§4.3.2: the initial offer MAY contain an empty list of candidates."""

    async def publish():
        publisher = Publisher()
        try:
            sdp = await publisher.offer()
            session = await asyncio.to_thread(endpoint.publish, without_candidates(sdp))
            await publisher.take(session.sdp)
            assert (await asyncio.to_thread(session.patch, fragment(sdp))).status_code == 204
            await publisher.until_connected()
        finally:
            await publisher.close()

    asyncio.run(publish())


def test_a_publisher_with_all_candidates_in_its_offer_needs_no_patch(endpoint):
    """§4.3.2: the offer MAY be sent after gathering is complete; trickling is the client's to choose (§4.4.5)."""

    async def publish():
        publisher = Publisher()
        try:
            session = await asyncio.to_thread(endpoint.publish, await publisher.offer())
            await publisher.take(session.sdp)
            await publisher.until_connected()
        finally:
            await publisher.close()

    asyncio.run(publish())
