"""RFC 9725 §4.2: the end of a session."""

import asyncio

import pytest

from .client import Publisher, fragment, offer, until


def test_a_session_is_ended_with_200(session):
    """§4.2: a DELETE of the session URL; §3: responds with a 200 OK."""
    assert session.delete().status_code == 200


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_an_ended_session_is_not_there_any_more(session, method):
    """§4.2: upon the DELETE the session will be removed; RFC 9110 §15.5.5, §15.5.11: 404 or 410."""
    assert session.delete().status_code == 200
    answer = session.patch(fragment(offer())) if method == "PATCH" else session.endpoint.ask(method, session.url)
    assert answer.status_code in (404, 410), answer.status_code


def test_a_session_that_never_was_is_not_there(session):
    """RFC 9110 §15.5.5: 404."""
    unknown = session.url[:-4] + ("0000" if not session.url.endswith("0000") else "1111")
    assert session.endpoint.ask("DELETE", unknown).status_code == 404
    assert session.delete().status_code == 200


@pytest.mark.parametrize("tag", ['"another"', "*", "current"])
def test_an_entity_tag_is_ignored_at_the_end(session, tag):
    """§4.3.1: sessions MUST ignore any entity-tag sent when ICE session matching is not required, as in the DELETE."""
    assert session.delete(if_match=session.etag if tag == "current" else tag).status_code == 200


def test_the_end_of_a_session_ends_its_connection(endpoint):
    """§4.2: resources are freed on the media server, terminating the ICE and DTLS sessions."""

    async def publish():
        publisher = Publisher()
        try:
            session = await asyncio.to_thread(endpoint.publish, await publisher.offer())
            await publisher.take(session.sdp)
            await publisher.until_connected()
            assert (await asyncio.to_thread(session.delete)).status_code == 200
            ended = ("closed", "failed")
            await until(lambda: publisher.peer.connectionState in ended, 60, "the connection to end")
        finally:
            await publisher.close()

    asyncio.run(publish())
