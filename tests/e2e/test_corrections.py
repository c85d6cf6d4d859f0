"""What was heard is corrected by people, on the page and over HTTP: no version is lost, and hls.js shows the newest in the stream."""

import pytest
from playwright.sync_api import expect

import judges
import players
from material import spoken_film
from players import shown
from s3 import S3
from server import Server, problem, until
from test_jobs import LEAN, jobs
from test_players import HLS_JS


@pytest.fixture
def stored():
    s3 = S3()
    yield s3
    s3.close()


def path(recording, rest):
    return f"/v1/recordings/{recording['id']}/{rest}"


def said(server, recording, form="json", **query):
    answer = server.http.get(path(recording, f"transcript.{form}"), params=query)
    assert answer.status_code == 200, answer.text
    return (answer.json() if form == "json" else answer.text), answer.headers["etag"]


def correct(server, recording, read, *corrections):
    headers = {"if-match": read} if read else {}
    return server.http.patch(path(recording, "transcript.json"), json={"corrections": corrections}, headers=headers)


def segments(server, recording):
    """The bytes of each segment of pictures and sound, and of each init segment, as the origin gives them."""
    folder = path(recording, "hls/")
    lists = {name: server.http.get(folder + name).text for name, kind in judges.renditions(server, recording).items() if kind != "subtitles"}
    names = {}
    for name, playlist in lists.items():
        for line in playlist.splitlines():
            file = line.split('URI="')[1].split('"')[0] if line.startswith("#EXT-X-MAP") else line
            if file and not file.startswith("#"):
                names[f"{name.rsplit('/', 1)[0]}/{file}"] = None
    return {name: server.http.get(folder + name).content for name in names}


def test_a_person_corrects_a_line_on_the_page_and_every_version_is_kept(tmp_path, stored, chromium, new_page):
    settings = {**LEAN, **stored.environment}
    server = Server(tmp_path, **settings)
    try:
        if not server.captions_on():
            pytest.skip("NO SPEECH MODEL: nothing was heard that could be corrected")
        recording = server.create("Corrected")
        assert server.upload(recording, spoken_film().read_bytes(), "video/mp4").is_success
        recording = server.until_state(recording, "ready")
        heard, first = said(server, recording)
        assert first == '"1"' and len(heard["segments"]) >= 2
        media = segments(server, recording)
        assert len(media) > 5

        # on the page
        page, other = (new_page(chromium()) for _ in range(2))
        for it in (page, other):
            it.goto(recording["watch_url"])
            expect(it.get_by_test_id("transcript-line").first).to_be_visible()
        line = page.get_by_test_id("transcript-line").first
        line.hover()
        line.get_by_test_id("edit-line").click()
        words = page.get_by_test_id("line-words")
        before = heard["segments"][0]["text"]
        assert words.input_value() == before
        last = before.split(" ")[-1]
        now = f"{before.rsplit(' ', 1)[0]} LOOM & Co."
        words.fill(now)
        page.screenshot(path=tmp_path / "editing.png")
        print("screenshots in", tmp_path)
        words.press("Enter")
        expect(page.get_by_test_id("line-words")).to_have_count(0)
        expect(page.get_by_test_id("transcript-line").first).to_contain_text("LOOM & Co.")
        page.screenshot(path=tmp_path / "corrected.png")
        newest, second = said(server, recording)
        assert second == '"2"' and newest["segments"][0]["text"] == now
        assert said(server, recording, version=1)[0] == heard
        old, new = heard["segments"][0]["words"], newest["segments"][0]["words"]
        assert new[: len(old) - 1] == old[:-1], "a word that stays keeps its time"
        assert new[len(old) - 1]["start"] == old[-1]["start"] and new[-1]["end"] == old[-1]["end"], last

        # another page has read the first version: of another line both are kept, of the same line the second is told
        theirs = other.get_by_test_id("transcript-line").nth(1)
        theirs.hover()
        theirs.get_by_test_id("edit-line").click()
        other.get_by_test_id("line-words").fill("Another line.")
        other.get_by_test_id("save-line").click()
        expect(other.get_by_test_id("transcript-line").first).to_contain_text("LOOM & Co.")
        expect(other.get_by_test_id("transcript-line").nth(1)).to_contain_text("Another line.")
        line.hover()
        line.get_by_test_id("edit-line").click()
        third = said(server, recording)[1]
        assert correct(server, recording, third, {"segment": 0, "text": "Theirs."}).status_code == 200
        words.fill("Mine.")
        words.press("Enter")
        expect(page.get_by_role("alert").filter(has_text="Somebody else has corrected this line")).to_be_visible()
        assert words.input_value() == "Mine."
        page.screenshot(path=tmp_path / "conflict.png")
        words.press("Escape")
        expect(words).to_have_count(0)
        refused = correct(server, recording, third, {"segment": 0, "text": "Mine."})
        assert refused.status_code == 412 and "version 4" in problem(refused), refused.text
        assert correct(server, recording, None, {"segment": 0, "text": "Mine."}).status_code == 428

        # in the stream, as hls.js reads it, and to a server that was killed and has lost its disk
        restored = server.http.post(path(recording, "transcript/versions/2/restore"), headers={"if-match": '"4"'})
        assert restored.json()["version"] == 5 and restored.json()["restored"] == 2, restored.text
        for killed in (False, True):
            if killed:
                until(lambda: jobs(server, recording)["upload"]["state"] == "done", 60, "all to be sent")
                server.process.kill()
                server.process.wait()
                server.close()
                (tmp_path / "elsewhere").mkdir()
                server = Server(tmp_path / "elsewhere", **settings)
            assert said(server, recording)[0] == newest
            assert said(server, recording, version=1)[0] == heard
            assert said(server, recording, version=3)[0]["segments"][1]["text"] == "Another line."
            assert "Another" in said(server, recording, "srt", version=3)[0]
            versions = server.http.get(path(recording, "transcript/versions")).json()["versions"]
            assert [it["version"] for it in versions] == [1, 2, 3, 4, 5]
            shown_text = judges.caption_text(server, server.show(recording))
            assert "LOOM" in shown_text and "Theirs." not in shown_text, shown_text
            text = server.http.get(path(recording, "hls/captions/index.m3u8")).text
            name = next(it for it in text.splitlines() if it and not it.startswith("#"))
            cache = server.http.get(path(recording, f"hls/captions/{name}")).headers["cache-control"]
            assert "immutable" not in cache and "max-age=60" in cache, cache
            assert segments(server, recording) == media, "nothing that a cache holds for a year has changed"
        player = shown(server, new_page, chromium(), players.HLS, judges.url(server, server.show(recording), "main.m3u8"), HLS_JS)
        lines = "() => [...document.querySelector('video').textTracks].flatMap(it => [...(it.cues ?? [])].map(cue => cue.text)).join(' ')"
        player.evaluate("() => { for (const it of document.querySelector('video').textTracks) it.mode = 'showing'; }")
        until(lambda: "LOOM" in player.evaluate(lines), 60, "hls.js to read the corrected captions")
        gone = server.http.delete(f"/v1/recordings/{recording['id']}")
        assert gone.status_code == 204
        until(lambda: not [key for key in stored.keys() if key.startswith(recording["id"])], 30, "the store to be empty")
    finally:
        server.close()
