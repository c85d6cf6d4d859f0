"""RFC 9725 §4.5, §4.6 and §4.9: other nodes, ICE servers, extensions."""

import urllib.parse

import httpx
import pytest

from .client import SDP, Endpoint, links, offer
from .conftest import ICE_SERVERS

ORIGIN = "https://publisher.example"
WANTED = [(url, server) for server in ICE_SERVERS for url in ([server["urls"]] if isinstance(server["urls"], str) else server["urls"])]


def check_servers(found):
    assert [target for target, _ in found] == [url for url, _ in WANTED]
    for (_, parameters), (url, server) in zip(found, WANTED):
        assert parameters.get("username") == server.get("username"), url
        assert parameters.get("credential") == server.get("credential"), url
        assert parameters.get("credential-type", "password") == "password", url


def test_ice_servers_are_told_in_the_201(ours, session):
    """§4.6: a Link header field with a rel of ice-server for each STUN/TURN server, credentials as its attributes."""
    check_servers(links(session.answer, "ice-server"))


def test_ice_servers_are_urls_of_stun_and_turn(session, optional):
    """§4.6: the Link target is the server URI as defined in RFC 7064 and RFC 7065."""
    found = links(session.answer, "ice-server")
    optional(bool(found), "ICE servers (MAY)")
    for target, parameters in found:
        scheme = target.split(":")[0]
        assert scheme in ("stun", "stuns", "turn", "turns"), target
        assert scheme.startswith("stun") or {"username", "credential"} <= parameters.keys(), target


def test_ice_servers_are_told_to_options_with_a_token(ours, endpoint):
    """§4.6: the endpoint MAY also include the configuration on the responses to OPTIONS requests before the POST."""
    check_servers(links(endpoint.ask("OPTIONS"), "ice-server"))


@pytest.mark.parametrize("token", ["", "wrong"], ids=["none", "wrong"])
def test_ice_servers_are_not_told_to_strangers(ours, endpoint, token):
    """§4.6: credentials usable by the client, and by nobody else."""
    answer = endpoint.ask("OPTIONS", token=token)
    assert answer.status_code == 200 and "link" not in answer.headers
    assert "link" not in endpoint.post(offer(), token=token).headers


def test_ice_servers_are_not_told_to_a_preflight(endpoint):
    """§4.6: SHOULD NOT return the configuration if the OPTIONS request is a preflight request for CORS."""
    answer = endpoint.ask("OPTIONS", token="", origin=ORIGIN, access_control_request_method="POST")
    assert not links(answer, "ice-server")


def test_a_link_is_an_ice_server_or_a_registered_extension(session):
    """§4.9: an extension's rel begins with urn:ietf:params:whip:ext; a client ignores those it does not know."""
    for value in session.answer.headers.get_list("link"):
        assert 'rel="ice-server"' in value or 'rel="urn:ietf:params:whip:ext:' in value, value


@pytest.fixture(scope="module")
def full(start_server, server):
    """A node that has room for one publisher, taken by nobody yet, and sends others to another node; and that node."""
    if server is None:
        pytest.skip("needs servers that are started for the test")
    other = start_server()
    elsewhere = other.create()
    node = start_server(LOOM_MAX_LIVE="1", LOOM_REDIRECT_TO=elsewhere["whip_url"] + "?from={id}")
    return node, elsewhere


@pytest.fixture(params=["LOOM_MAX_LIVE", "LOOM_MAX_PER_ADDRESS"])
def busy(ours, start_server, request):
    return start_server(**{request.param: "1"})


def taken(node, http):
    """An endpoint of a node whose one place is taken."""
    first, second = node.create(), node.create()
    holder = Endpoint(first["whip_url"], first["whip_token"], http).publish()
    return holder, Endpoint(second["whip_url"], second["whip_token"], http)


def test_a_full_node_says_503_and_when_to_come_back(busy, whip):
    """§4.5: in case of high load, 503 Service Unavailable; Retry-After says how long to wait (RFC 9110 §10.2.3); §5: who has
    a token is limited too."""
    holder, endpoint = taken(busy, whip.http)
    answer = endpoint.post(offer())
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert "Location" not in answer.headers
    assert holder.delete().status_code == 200


def test_a_full_node_sends_a_publisher_to_another_with_307(full, whip):
    """§4.5: 307 Temporary Redirect is preferred, 301 and 302 MUST NOT be used; a client follows it with POST and body."""
    node, elsewhere = full
    holder, endpoint = taken(node, whip.http)
    try:
        answer = endpoint.post(offer())
        assert answer.status_code == 307, answer.text
        to = answer.headers["location"]
        assert urllib.parse.urlsplit(to)._replace(query="").geturl() == elsewhere["whip_url"]

        # A client that follows redirects by itself, with the token that the other node wants.
        def authorize(request):
            told = elsewhere["whip_token"] if str(request.url).startswith(elsewhere["whip_url"]) else endpoint.token
            request.headers["authorization"] = f"Bearer {told}"

        with httpx.Client(trust_env=False, follow_redirects=True, event_hooks={"request": [authorize]}) as client:
            followed = client.post(endpoint.url, content=offer(), headers={"content-type": SDP})
            assert [hop.status_code for hop in followed.history] == [307]
            assert followed.status_code == 201, followed.text
            session = str(followed.url.join(followed.headers["location"]))
            assert session.startswith(elsewhere["whip_url"])
            assert client.delete(session).status_code == 200
    finally:
        assert holder.delete().status_code == 200, "a session's own requests are not redirected"


def test_a_stranger_is_not_redirected(full, whip):
    """§4.5, §4.7: where else there is room is told to those who may publish."""
    holder, endpoint = taken(full[0], whip.http)
    assert endpoint.post(offer(), token="wrong").status_code == 401
    assert holder.delete().status_code == 200
