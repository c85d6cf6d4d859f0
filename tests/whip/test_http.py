"""RFC 9725 §4.1 and §4.2: the methods of both resources, and what browsers need."""

import pytest

from .client import FRAGMENT, SDP, offer

ORIGIN = "https://publisher.example"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("resource", ["endpoint", "session"])
def test_a_get_is_successful_and_has_no_content(session, resource, method):
    """§4.1: endpoints and sessions MUST return a 2XX response with no content to a GET (RFC 9110 §9.3.2: HEAD likewise)."""
    url = session.url if resource == "session" else session.endpoint.url
    answer = session.endpoint.ask(method, url)
    assert 200 <= answer.status_code < 300, answer.status_code
    assert answer.content == b""


@pytest.mark.parametrize("resource, method", [("endpoint", "PUT"), ("endpoint", "PATCH"), ("endpoint", "DELETE"), ("session", "PUT"), ("session", "POST")])
def test_another_method_is_405_with_those_that_there_are(session, resource, method):
    """RFC 9110 §15.5.6: the origin server MUST generate an Allow header field in a 405 response."""
    url = session.url if resource == "session" else session.endpoint.url
    answer = session.endpoint.ask(method, url, content=offer(), content_type=SDP)
    assert answer.status_code == 405, answer.status_code
    allowed = {name.strip() for name in answer.headers["allow"].split(",")}
    assert ({"PATCH", "DELETE"} if resource == "session" else {"POST"}) <= allowed
    assert method not in allowed
    assert session.delete().status_code == 200, "the session has come to harm"


def test_options_of_the_endpoint_are_200_and_say_what_may_be_posted(endpoint):
    """§4.2: the 200 OK response to any OPTIONS request SHOULD include an Accept-Post header of application/sdp."""
    answer = endpoint.ask("OPTIONS")
    assert answer.status_code == 200, answer.status_code
    assert SDP in answer.headers["accept-post"]


def test_options_of_a_session_say_what_a_patch_may_be(session):
    """RFC 5789 §3.1: Accept-Patch SHOULD appear in the OPTIONS response for any resource that supports PATCH."""
    answer = session.endpoint.ask("OPTIONS", session.url)
    assert 200 <= answer.status_code < 300, answer.status_code
    assert FRAGMENT in answer.headers["accept-patch"]


@pytest.mark.parametrize("resource, method, fields", [("endpoint", "POST", "authorization,content-type"), ("session", "PATCH", "authorization,content-type,if-match"), ("session", "DELETE", "authorization")])
def test_a_browsers_preflight_is_answered_without_a_token(session, resource, method, fields):
    """§4.2: endpoints MUST support OPTIONS for CORS (Fetch §3.3); §4.7.1: a preflight carries no Authorization."""
    url = session.url if resource == "session" else session.endpoint.url
    answer = session.endpoint.ask(
        "OPTIONS", url, token="", origin=ORIGIN, access_control_request_method=method, access_control_request_headers=fields
    )
    assert answer.status_code in (200, 204), answer.status_code
    headers = answer.headers
    assert headers["access-control-allow-origin"] in ("*", ORIGIN)
    listed = {name.strip() for name in headers["access-control-allow-methods"].split(",")}
    assert method in listed or "*" in listed
    allowed = {name.strip().lower() for name in headers["access-control-allow-headers"].split(",")}
    # Fetch §3.2.4: * does not stand for authorization
    assert set(fields.split(",")) <= allowed, allowed


def test_a_page_of_another_origin_may_read_what_it_needs(endpoint):
    """§4.2, Fetch §3.2.3: what a client reads is exposed: Location, ETag, and Link where there is one."""
    answer = endpoint.post(offer(), origin=ORIGIN)
    assert answer.status_code == 201, answer.text
    assert answer.headers["access-control-allow-origin"] in ("*", ORIGIN)
    exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert {"location", "etag", "link"} <= exposed or exposed == {"*"}


def test_a_page_of_another_origin_may_read_why_it_was_refused(endpoint):
    """Fetch §3.2.3: without Access-Control-Allow-Origin a script sees a network error in place of the status."""
    answer = endpoint.post("hello", origin=ORIGIN)
    assert 400 <= answer.status_code < 500
    assert answer.headers["access-control-allow-origin"] in ("*", ORIGIN)


def test_a_client_that_does_not_take_sdp_is_told_so(endpoint, optional):
    """RFC 9110 §12.5.1, §15.5.7: 406 where no representation is acceptable."""
    answer = endpoint.post(offer(), accept="text/html")
    optional(answer.status_code == 406, f"406 (RFC 9110 §12.5.1 also allows {answer.status_code})")
    assert endpoint.post(offer(), accept="text/html, */*;q=0.1").status_code == 201
