"""RFC 9725 §4.7: who may publish."""

import pytest

from .client import SDP, fragment, offer


@pytest.fixture
def guarded(endpoint):
    if not endpoint.token:
        pytest.skip("no token was given: LOOM_WHIP_TOKEN")
    return endpoint


def test_an_offer_without_a_token_is_401_with_a_challenge(guarded):
    """§4.7.1: a request may have to be authenticated; RFC 9110 §15.5.2: a 401 MUST have WWW-Authenticate."""
    answer = guarded.post(offer(), token="")
    assert answer.status_code == 401, answer.text
    assert answer.headers["www-authenticate"].lower().startswith("bearer")
    assert "error=" not in answer.headers["www-authenticate"], "RFC 6750 §3.1: no error where no token was shown"


@pytest.mark.parametrize("token", ["wrong", "x" * 3000], ids=["wrong", "long"])
def test_a_wrong_token_is_refused(guarded, token):
    """§4.7.1, RFC 6750 §3.1: invalid_token is 401 (403 for one that does not reach so far)."""
    answer = guarded.post(offer(), token=token)
    assert answer.status_code in (401, 403), answer.text
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"].lower().startswith("bearer")


def test_another_scheme_is_refused(guarded):
    """§4.7: bearer token authentication MUST be supported; what else there is, the challenge says."""
    answer = guarded.ask("POST", content=offer(), content_type=SDP, token="", authorization="Basic dXNlcjpwYXNz")
    assert answer.status_code == 401, answer.text


def test_the_token_is_a_bearer_token_in_any_spelling_of_the_scheme(guarded):
    """§4.7.1, RFC 6750 §2.1; RFC 9110 §11.1: the scheme is case-insensitive."""
    answer = guarded.ask("POST", content=offer(), content_type=SDP, token="", authorization=f"bearer {guarded.token}")
    assert answer.status_code == 201, answer.text
    deleted = guarded.ask("DELETE", str(answer.url.join(answer.headers["location"])))
    assert deleted.status_code == 200


@pytest.mark.parametrize("token", ["", "wrong"], ids=["none", "wrong"])
def test_a_session_is_guarded_as_its_endpoint_is(guarded, token):
    """§4.7.1: the Authorization header field is sent in all requests, to the endpoint and to the session."""
    session = guarded.publish()
    assert session.patch(fragment(offer()), token=token).status_code in (401, 403)
    assert session.delete(token=token).status_code in (401, 403)
    assert session.patch(fragment(offer())).status_code == 204, "who was refused has changed nothing"
    assert session.delete().status_code == 200


def test_a_token_is_checked_before_the_offer_is_looked_at(guarded):
    """§5: what a stranger sends costs nothing."""
    assert guarded.post("hello", token="wrong").status_code in (401, 403)
    assert guarded.post(offer(), content_type="text/plain", token="").status_code in (401, 403, 415)


def test_one_recordings_token_is_no_good_for_another(ours, whip):
    """§4.7.1: the token's meaning is the server's: here it is one recording's."""
    first, second = whip.endpoint(), whip.endpoint()
    assert first.post(offer(), token=second.token).status_code == 401
    session = first.publish()
    assert session.delete(token=second.token).status_code == 401
    assert second.ask("DELETE", session.url.replace(first.url, second.url)).status_code == 404
