"""Recordings in an S3 store: sent while they are live, once each though the server is killed, and served from there alone."""

import hashlib
import json
import pathlib

import pytest

import judges
import material
from s3 import S3
from server import Server, until
from test_reconnect import plays_to_its_end

# A camera's own pictures: what is sent is what counts here, not what is made of it.
LEAN = {"LOOM_LADDER": "source", "LOOM_THUMBNAILS": "on", "LOOM_CAPTIONS": "off", "LOOM_STORE_CLASS": "warm"}


@pytest.fixture
def s3():
    s3 = S3()
    yield s3
    s3.close()


def kept(folder, recording):
    """{key: SHA-256} of the files of a recording on disk that belong in a store."""
    root = folder / "data" / "recordings" / recording["id"]
    apart = {"stored.jsonl", "speech.pcm", "queue.json"}
    files = [path for path in root.rglob("*") if path.is_file() and path.name not in apart]
    return {f"{recording['id']}/{path.relative_to(root)}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def is_ready(s3, recording):
    """Whether the store says that the recording is over: that comes last."""
    key = f"{recording['id']}/recording.json"
    return key in s3.keys() and json.loads(s3.get(key))["state"] == "ready"


def test_what_is_live_is_sent_once_through_kills_and_served_from_the_store_alone(s3, publish, tmp_path, chromium, new_page):
    folder, elsewhere = tmp_path / "one", tmp_path / "two"
    folder.mkdir()
    elsewhere.mkdir()
    server = Server(folder, **s3.environment, **LEAN)
    killed = []

    def kill_at(puts, when):
        """Kills the server at its so-manieth put from here, before or after it is stored."""
        at = sum(s3.sent.values()) + puts

        def ended(number, now):
            if number < at or now != when or server.process.poll() is not None:
                return server.process.poll() is not None
            server.process.kill()
            server.process.wait()
            killed.append((number, now))
            return True

        s3.at_put = ended

    recording = server.create("Kept")
    publish(recording, video=material.flashes(), rate=30, audio=material.beeps(), hang_up=False)
    # segments arrive while it is live
    until(lambda: any(key.endswith("s3.m4s") for key in s3.keys()), 60, "a segment in the store")
    assert server.show(recording)["state"] == "live"
    kill_at(2, "after")
    until(lambda: killed, 60, "the kill while it is live")
    for puts, when in ((2, "before"), (3, "after"), (1, "after"), (4, "before")):
        before = len(killed)
        s3.at_put = None
        server.close()
        server = Server(folder, **s3.environment, **LEAN)
        kill_at(puts, when)
        until(lambda: len(killed) > before or is_ready(s3, recording), 60, "the next kill")
    s3.at_put = None
    server.close()
    server = Server(folder, **s3.environment, **LEAN)
    until(lambda: is_ready(s3, recording), 60, "everything to be in the store")
    print(f"killed at {killed}, {sum(s3.sent.values())} puts, {len(s3.stored)} of them stored")
    assert len(killed) >= 3, killed

    assert not s3.unnamed, f"a playlist named what was not there: {s3.unnamed}"
    s3.assert_stored_once()
    there = {key: hashlib.sha256(s3.get(key)).hexdigest() for key in s3.keys()}
    local = kept(folder, recording)
    # a segment that was cut off by the kill is in no playlist, and stays where it is
    assert there == {key: local[key] for key in there}
    missing = set(local) - set(there)
    assert len([key for key in missing if key.endswith(".m4s")]) <= 2 and all(key.endswith((".m4s", ".partial")) for key in missing), missing
    assert all(s3.tags(key) == {"loom-class": "warm"} for key in list(there)[:5])
    memory = int(pathlib.Path(f"/proc/{server.process.pid}/status").read_text().split("VmHWM:")[1].split()[0])
    print(f"the server's memory at its most: {memory / 1024:.0f} MiB")
    ready = server.show(recording)
    server.close()

    # another machine, with nothing on its disk
    server = Server(elsewhere, **s3.environment, **LEAN)
    try:
        until(lambda: server.http.get("/v1/recordings").json()["recordings"], 30, "the recording to be listed")
        found = server.show(recording)
        assert found["state"] == "ready" and found["duration"] == ready["duration"]
        ends = []
        for path in judges.renditions(server, found):
            assert "#EXT-X-ENDLIST" in server.http.get(judges.url(server, recording, path)).text
            judges.decode(judges.url(server, recording, path))
            ends.append(judges.span(judges.url(server, recording, path))[1])
        root = elsewhere / "data" / "recordings" / recording["id"]
        assert not list(root.rglob("*.m4s")), "segments are read from the store"
        film = tmp_path / "download.mp4"
        film.write_bytes(server.http.get(f"/v1/recordings/{recording['id']}/download.mp4").content)
        judges.decode(film)
        plays_to_its_end(new_page(chromium()), found, min(ends))
        url = judges.url(server, recording, next(iter(judges.renditions(server, found))).replace("index.m3u8", "s2.m4s"))
        whole = server.http.get(url)
        part = server.http.get(url, headers={"range": "bytes=100-299"})
        assert part.status_code == 206 and part.content == whole.content[100:300]
        assert server.http.get(url, headers={"if-none-match": whole.headers["etag"]}).status_code == 304
        assert server.http.put(f"/v1/recordings/{recording['id']}/class", json="archive").status_code == 204
        assert all(s3.tags(key) == {"loom-class": "archive"} for key in list(there)[:5])
        assert not server.http.put(f"/v1/recordings/{recording['id']}/class", json="lukewarm").is_success
        assert server.http.delete(f"/v1/recordings/{recording['id']}").status_code == 204
        assert s3.keys() == {}
    finally:
        server.close()
