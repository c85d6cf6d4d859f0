"""The server under test: any, by LOOM_WHIP_URL, or one that is started here."""

import json
import os
import pathlib
import sys

import pytest

from .client import Endpoint, http_client

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

URL, TOKEN = os.environ.get("LOOM_WHIP_URL"), os.environ.get("LOOM_WHIP_TOKEN", "")
ICE_SERVERS = [
    {"urls": "stun:stun.example.net"},
    {
        "urls": ["turn:turn.example.net?transport=udp", "turns:turn.example.net?transport=tcp"],
        "username": 'user "of" all',
        "credential": "my\\Password",
    },
]


class Whip:
    """Makes endpoints, and ends the sessions that were made there."""

    def __init__(self, server):
        self.server, self.http, self.endpoints, self.recordings = server, http_client(), [], {}

    def endpoint(self):
        """An endpoint to which nobody publishes."""
        if self.server is None:
            self.end_sessions()
            endpoint = Endpoint(URL, TOKEN, self.http)
        else:
            recording = self.server.create()
            endpoint = Endpoint(recording["whip_url"], recording["whip_token"], self.http)
            self.recordings[endpoint.url] = recording
        self.endpoints.append(endpoint)
        return endpoint

    def end_sessions(self):
        for endpoint in self.endpoints:
            for session in endpoint.sessions:
                session.delete()
            endpoint.sessions.clear()


@pytest.fixture(scope="session")
def start_server(tmp_path_factory):
    """Starts one more of our servers, with the given settings."""
    from server import BINARY, Server

    running = []

    def start(**settings):
        assert BINARY.exists(), f"there is no server at {BINARY}: cargo build -p loom-server"
        settings = {"LOOM_CAPTIONS": "off", **settings}
        running.append(Server(tmp_path_factory.mktemp("whip"), **settings))
        return running[-1]

    yield start
    for server in running:
        alive = server.process.poll() is None
        server.close()
        log = server.log.read_text()
        assert alive, f"the server did not live to the end of the tests:\n{log[-4000:]}"
        assert "panicked" not in log, log[log.index("panicked") - 200 :][:4000]
        assert "my\\\\Password" not in log and "my\\Password" not in log, "a TURN password was logged"


@pytest.fixture(scope="session")
def server(start_server):
    """Our server, or None where LOOM_WHIP_URL names another."""
    return None if URL else start_server(LOOM_ICE_SERVERS=json.dumps(ICE_SERVERS), LOOM_LOG="debug")


@pytest.fixture
def whip(server):
    whip = Whip(server)
    yield whip
    whip.end_sessions()
    whip.http.close()


@pytest.fixture
def endpoint(whip):
    return whip.endpoint()


@pytest.fixture
def session(endpoint):
    return endpoint.publish()


@pytest.fixture
def ours(server):
    """For what needs a server that is configured for it."""
    if server is None:
        pytest.skip("needs a server that is started for the test")
    return server


@pytest.fixture
def optional(server):
    """Skips what the RFC leaves open, where a foreign server does not have it."""

    def check(has_it, what):
        if not has_it and server is None:
            pytest.skip(f"the server does not have it: {what}")
        assert has_it, what

    return check
