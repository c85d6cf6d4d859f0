"""The server under test, as a client sees it."""

import json
import os
import pathlib
import socket
import subprocess
import threading
import time

import httpx

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
MODEL = SHARED / "models" / "whisper-tiny.en"
BINARY = pathlib.Path(os.environ.get("LOOM_BIN", ROOT / "target" / "debug" / "loom-server"))


class Server:
    """One loom-server on free ports with a data folder of its own."""

    def __init__(self, folder, host="127.0.0.1", **environment):
        self.log = folder / "server.log"
        self.base = f"http://{host}:{free_port(socket.SOCK_STREAM)}"
        self.udp = free_port(socket.SOCK_DGRAM)
        variables = {
            **os.environ,
            "LOOM_LISTEN": self.base.removeprefix("http://"),
            "LOOM_UDP": str(self.udp),
            "LOOM_DATA_DIR": str(folder / "data"),
            **environment,
        }
        if MODEL.exists():
            variables.setdefault("LOOM_MODEL", str(MODEL))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [BINARY], env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self.http = httpx.Client(base_url=self.base, timeout=60, trust_env=False)
        try:
            until(self._answers, 60, f"{BINARY} to answer")
        except BaseException:
            self.close()
            raise

    def close(self):
        self.http.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _answers(self):
        assert self.process.poll() is None, f"the server ended at once:\n{self.log.read_text()}"
        try:
            return self.http.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def captions_on(self):
        """Waits for the speech model to be found; whether there is one."""

        def settled():
            said = self.http.get("/v1/recordings").json().get("captions")
            return said if said != "loading" else None

        return until(settled, 180, "the speech model") == "on"

    def create(self, title=None):
        answer = self.http.post("/v1/recordings", json={"title": title} if title else {})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def show(self, recording):
        answer = self.http.get(f"/v1/recordings/{recording['id']}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stop(self, recording):
        answer = self.http.post(f"/v1/recordings/{recording['id']}/stop")
        assert answer.is_success, answer.text

    def publish(self, recording, offer, token=None, content_type="application/sdp"):
        """The answer to a WHIP offer; a token of '' sends none."""
        token = recording["whip_token"] if token is None else token
        headers = {"content-type": content_type} | ({"authorization": f"Bearer {token}"} if token else {})
        return self.http.post(recording["whip_url"], content=offer, headers=headers)

    def upload(self, recording, content, content_type):
        url = f"/v1/recordings/{recording['id']}/media"
        return self.http.post(url, content=content, headers={"content-type": content_type})

    def until_state(self, recording, *states, seconds=120, every=0.1):
        """The recording once it is in one of these states."""

        def arrived():
            now = self.show(recording)
            failed = now["state"] == "failed" and "failed" not in states
            assert not failed, f"the recording failed: {now.get('reason')}"
            return now if now["state"] in states else None

        return until(arrived, seconds, f"the recording to be {' or '.join(states)}", every)

    def events(self, recording):
        """Collects the recording's server-sent events, as they come, in a list of (name, data)."""
        seen = []

        def read():
            url = f"{self.base}/v1/recordings/{recording['id']}/events"
            try:
                with httpx.stream("GET", url, timeout=None, trust_env=False) as stream:
                    name = ""
                    for line in stream.iter_lines():
                        if line.startswith("event:"):
                            name = line[6:].strip()
                        elif line.startswith("data:"):
                            seen.append((name, json.loads(line[5:])))
            except httpx.TransportError:
                pass  # the server ended, and with it the stream

        threading.Thread(target=read, daemon=True).start()
        return seen


def until(happened, seconds, what, every=0.1):
    """The first true value that `happened()` gives. The limit is there to fail at all, not to measure."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := happened():
            return value
        time.sleep(every)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def problem(answer):
    """The sentence of an RFC 9457 problem document."""
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json", answer.text
    told = answer.json()
    assert told.get("title") and told.get("detail"), told
    return told["detail"]
