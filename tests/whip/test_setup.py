"""RFC 9725 §4.2: an offer makes a session."""

import re

import pytest

from .client import FRAGMENT, SDP, attributes, offer, sections


def is_client_error(answer):
    return 400 <= answer.status_code < 500


def test_an_offer_is_answered_with_201_created(endpoint):
    """§4.2: the endpoint MUST return a 201 Created response."""
    assert endpoint.post(offer()).status_code == 201


def test_the_answer_is_of_type_application_sdp(session):
    """§4.2: a content type of application/sdp, the SDP answer as the body."""
    assert session.answer.headers["content-type"].split(";")[0].strip().lower() == SDP
    assert session.sdp.startswith("v=0\r\n")


def test_the_location_is_the_sessions_url(session):
    """§4.2: a Location header field pointing to the newly created session; RFC 9110 §10.2.2: maybe a relative one."""
    assert session.answer.headers["location"]
    assert re.match(r"https?://", session.url), session.url
    assert session.url != session.endpoint.url
    assert session.delete().status_code == 200


def test_a_session_url_cannot_be_guessed(whip):
    """§5: endpoints SHOULD generate URLs with enough randomness."""
    names = {whip.endpoint().publish().url.rstrip("/").rsplit("/", 1)[1] for _ in range(3)}
    assert len(names) == 3, names
    assert all(len(name) >= 16 for name in names), names


def test_the_answer_says_what_a_patch_may_be(session):
    """RFC 5789 §3.1: Accept-Patch may be in any response about a resource that has PATCH."""
    assert FRAGMENT in session.answer.headers["accept-patch"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", FRAGMENT, None])
def test_an_offer_of_another_type_is_refused(endpoint, content_type):
    """§4.2: a content type different than application/sdp MUST be rejected with an appropriate 4XX; RFC 9110 §15.5.16: 415."""
    answer = endpoint.post(offer(), content_type=content_type)
    assert answer.status_code == 415, answer.status_code


@pytest.mark.parametrize("content_type", ["Application/SDP", "application/sdp; charset=utf-8"])
def test_a_media_type_is_compared_as_http_has_it(endpoint, content_type):
    """RFC 9110 §8.3.1: type and subtype are case-insensitive, parameters may follow."""
    assert endpoint.post(offer(), content_type=content_type).status_code == 201


MALFORMED = {
    "empty": lambda: "",
    "prose": lambda: "Dear server, I would like to publish.",
    "json": lambda: '{"sdp": "v=0"}',
    "no-version": lambda: offer().replace("v=0\r\n", "", 1),
    "no-media": lambda: "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n",
    "broken-line": lambda: offer().replace("a=rtcp-mux\r\n", "a rtcp mux\r\n"),
    "bytes": lambda: bytes(range(256)) * 8,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_offer_is_refused(endpoint, name):
    """§4.2: where the SDP is malformed, the endpoint MUST reject the POST with an appropriate 4XX error response."""
    answer = endpoint.post(MALFORMED[name]())
    assert is_client_error(answer), (answer.status_code, answer.text)
    assert endpoint.post(offer()).status_code == 201, "a refused offer must not be held against the next"


def test_an_offer_beyond_all_measure_is_refused(endpoint):
    """RFC 9110 §15.5.14: 413 for content larger than the server is willing to process."""
    assert endpoint.post(offer() + "a=padding:x\r\n" * 200_000).status_code == 413


@pytest.mark.parametrize("direction", ["recvonly", "inactive"])
def test_an_offer_that_sends_nothing_is_refused(endpoint, direction):
    """§4.2: the inactive and recvonly attributes MUST NOT be used in an offer."""
    answer = endpoint.post(offer(direction=direction))
    assert is_client_error(answer), (answer.status_code, answer.text)


def test_a_sendrecv_offer_is_taken_and_nothing_is_sent_back(endpoint):
    """§4.2: the client MAY use sendrecv; the endpoint MUST use recvonly in the answer."""
    session = endpoint.publish(offer(direction="sendrecv"))
    for section in sections(session.sdp):
        assert not attributes(section, "sendrecv") and attributes(section, "recvonly") == [""], section


def test_the_answer_receives_only(session):
    """§4.2: the endpoint MUST use the recvonly attribute in the answer."""
    assert [media.direction for media in session.parsed().media] == ["recvonly", "recvonly"]


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_one_kind_alone_can_be_published(endpoint, kind):
    """§4.4.2: at least one track of any media kind."""
    assert [media.kind for media in endpoint.publish(offer((kind,))).parsed().media] == [kind]


def test_the_same_offer_twice_makes_independent_sessions(whip):
    """§4.2: each POST creates a session of its own; §4.3.1: with an entity tag of its own."""
    first = whip.endpoint().publish(offer())
    if whip.server is None:
        second = whip.endpoints[0].post(offer())
        if second.status_code != 201:
            pytest.skip(f"one publisher an endpoint: {second.status_code}")
        second = whip.endpoints[0].sessions[-1]
    else:
        second = whip.endpoint().publish(offer())
    assert first.url != second.url and first.etag != second.etag
    assert first.delete().status_code == 200
    assert second.delete().status_code == 200, "the end of one is not the end of the other"


def test_a_second_publisher_is_refused_or_has_a_session_of_its_own(endpoint):
    """§4.2: a 201 is about a newly created session; §4.1: what is not taken is refused with a status of its class."""
    first = endpoint.publish(offer())
    answer = endpoint.post(offer())
    if answer.status_code == 201:
        second = endpoint.sessions[-1]
        assert second.url != first.url and second.etag != first.etag
        assert second.delete().status_code == 200
    else:
        assert is_client_error(answer), answer.status_code
        assert first.delete().status_code == 200, "the first has come to harm"


@pytest.mark.parametrize("content, content_type", [("hello", SDP), (offer, "text/plain")], ids=["bad", "type"])
def test_a_refusal_may_explain_itself_as_a_problem_document(endpoint, optional, content, content_type):
    """§4.1: finer-grained error information could be conveyed by a problem statement (RFC 9457)."""
    answer = endpoint.post(content if isinstance(content, str) else content(), content_type=content_type)
    optional(answer.headers.get("content-type", "").startswith("application/problem+json"), "problem documents")
    told = answer.json()
    assert told["status"] == answer.status_code and told["title"] and len(told["detail"].split()) > 3, told
