"""What is done for a recording after its end, though the server is killed while it is done."""

import collections
import time

import pytest

import judges
from material import spoken_film
from s3 import S3
from server import Server, problem, until

LEAN = {"LOOM_LADDER": "source", "LOOM_THUMBNAILS": "off"}


def jobs(server, recording):
    answer = server.http.get(f"/v1/recordings/{recording['id']}/jobs")
    assert answer.status_code == 200, answer.text
    return {job["job"]: job for job in answer.json()["jobs"]}


def test_a_transcript_that_was_cut_off_by_a_kill_is_made_and_sent_once_by_the_next_server(tmp_path):
    s3 = S3()
    server = Server(tmp_path, **s3.environment, **LEAN)
    try:
        if not server.captions_on():
            pytest.skip("NO SPEECH MODEL: no transcript was cut off")
        recording = server.create("Cut off")
        assert server.upload(recording, spoken_film().read_bytes(), "video/mp4").is_success

        def runs():
            job = jobs(server, recording).get("transcript", {"state": "none"})
            assert job["state"] in ("none", "queued", "running"), f"it was too quick: {job}"
            return job["state"] == "running"

        until(runs, 120, "the transcript to be begun", every=0.005)
        server.process.kill()
        server.process.wait()
        server.close()
        root = tmp_path / "data" / "recordings" / recording["id"]
        assert not (root / "transcript.json").exists(), "it was killed too late"
        assert (root / "speech.pcm").exists()

        server = Server(tmp_path, **s3.environment, **LEAN)
        ready = server.until_state(recording, "ready")
        assert not ready.get("reason"), "its media was complete: nothing was lost"
        done = until(lambda: (now := jobs(server, recording)) and all(job["state"] == "done" for job in now.values()) and now, 60, "all jobs")
        assert done["transcript"]["tries"] == 2 and done["transcript"]["progress"] == 1, done
        assert not (root / "speech.pcm").exists()
        said = server.http.get(f"/v1/recordings/{recording['id']}/transcript.json").json()
        assert said["segments"], said
        assert said["model"] != "live captions", said["model"]
        captions = server.http.get(judges.url(server, ready, "captions/index.m3u8"))
        assert "#EXT-X-ENDLIST" in captions.text
        stored = collections.Counter(s3.stored)
        assert max(stored.values()) == 1, [it for it, times in stored.items() if times > 1]
        assert sum(key.endswith("/transcript.json") for key, _ in stored) == 1
        assert s3.get(f"{recording['id']}/transcript.json") == (root / "transcript.json").read_bytes()
        # what is done stays so, however often it is asked
        before = len(s3.stored)
        again = server.http.post(f"/v1/recordings/{recording['id']}/jobs/transcript/restart")
        assert again.status_code == 200 and again.json()["state"] == "done", again.text
        time.sleep(0.5)
        assert jobs(server, recording) == done and len(s3.stored) == before
        assert "no job" in problem(server.http.post(f"/v1/recordings/{recording['id']}/jobs/laundry/restart"))
    finally:
        server.close()
        s3.close()
