"""A browser records through the page; another watches while it does; what is left is judged by others' code."""

import re
import types

import pytest

import judges
import material
import words
from server import MODEL, until

LISTENS = True
PATIENCE_MS = 120_000


def setting_up(page, server, mode, title):
    page.goto(server.base)
    page.get_by_test_id("title").fill(title)
    page.get_by_test_id(f"mode-{mode}").check(force=True)


def identifier(link):
    return {"id": link.rstrip("/").rsplit("/", 1)[1]}


@pytest.fixture(scope="module")
def told(server, captions, recorder, chromium):
    """The one long recording of this file; what was seen on the way. Each test looks at a part of it."""
    seen = types.SimpleNamespace()
    errors = []
    context = recorder.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(f"recorder: {error}"))
    page.on("console", lambda said: print(f"recorder console {said.type}: {said.text}") if said.type == "error" else None)
    setting_up(page, server, "camera", "Told by a test")
    page.get_by_test_id("record-button").click()
    page.get_by_test_id("share-link").wait_for(timeout=PATIENCE_MS)
    seen.link = page.get_by_test_id("share-link").input_value()
    seen.recording = identifier(seen.link)
    page.locator('[data-testid=studio][data-phase="recording"]').wait_for(timeout=PATIENCE_MS)
    seen.connection = page.get_by_test_id("connection").inner_text()

    watching = chromium().new_context(viewport={"width": 1280, "height": 800})
    other = watching.new_page()
    other.on("pageerror", lambda error: errors.append(f"watcher: {error}"))
    other.on("console", lambda said: print(f"watcher console {said.type}: {said.text}") if said.type == "error" else None)
    other.goto(seen.link)
    seen.states = [other.locator("main").get_attribute("data-state")]
    moving = "const v = document.querySelector('video'); return v.currentTime"
    now = lambda: other.evaluate(f"() => {{ {moving} }}")  # noqa: E731
    until(lambda: now() > 0.5, 120, "the first pictures")
    seen.live_from = now()
    until(lambda: now() > seen.live_from + 3, 120, "the picture to move")
    seen.live_to = now()
    seen.badge_shown = other.get_by_test_id("live-badge").is_visible()
    seen.size_live = other.evaluate("() => [document.querySelector('video').videoWidth, document.querySelector('video').videoHeight]")

    # Qualities: what the menu offers, and that choosing one changes the picture.
    other.get_by_test_id("quality").click()
    choices = other.get_by_test_id("quality-menu").get_by_role("menuitemradio")
    until(lambda: choices.count() >= 3, 60, "at least two renditions to choose from")
    seen.qualities = choices.all_inner_texts()
    least = int(re.match(r"(\d+)p", seen.qualities[-1])[1])
    choices.last.click()
    until(lambda: other.evaluate("() => document.querySelector('video').videoHeight") == least, 90, f"the picture at {least}p")
    seen.least = least
    other.get_by_test_id("quality").click()
    choices.first.click()

    if captions:
        caption = other.get_by_test_id("caption")
        seen.caption = until(lambda: caption.inner_text().strip(), 180, "a caption over the live picture")
        until(lambda: other.get_by_test_id("transcript-line").count(), 60, "a line of the live transcript")

    # The microphone's file ends after what it says; then a little more, and Stop.
    speech_seconds = material.LEAD_SECONDS + len(material.spoken()[1]) / material.RATE + 3
    elapsed = lambda: sum(60**i * int(n) for i, n in enumerate(reversed(page.get_by_test_id("elapsed").inner_text().split(":"))))  # noqa: E731
    until(lambda: elapsed() >= speech_seconds, 300, "all to be said", every=0.5)
    seen.elapsed = elapsed()
    seen.error_shown = page.get_by_test_id("error").is_visible()
    before_stop = now()
    page.get_by_test_id("stop-button").click()
    page.locator('[data-testid=state][data-state="ready"]').wait_for(timeout=300_000)
    seen.finished = server.until_state(seen.recording, "ready")
    other.locator('main[data-state="ready"]').wait_for(timeout=PATIENCE_MS)
    until(lambda: now() >= before_stop, 60, "the watcher to stay where it was")
    seen.veiled_after = other.get_by_test_id("veil").is_visible()
    seen.download_offered = other.get_by_test_id("download").is_visible()
    if captions:
        until(lambda: other.locator("[data-testid=transcript] .word").count() > 20, 60, "the finished transcript")
        # A word is a place to jump to.
        word = other.locator("[data-testid=transcript] .word").nth(10)
        seen.word_at = float(word.get_attribute("data-start"))
        word.click()
        until(lambda: seen.word_at - 0.5 <= now() <= seen.word_at + 8, 30, "the jump to a word")
        until(lambda: other.locator(".word.spoken").count() == 1, 30, "the spoken word to be marked")
    seen.page_errors = errors
    yield seen
    context.close()
    watching.close()


def test_the_link_is_there_while_recording_goes_on(server, told):
    assert told.link.startswith(f"{server.base}/w/")
    assert told.connection.startswith("Connected")
    assert not told.error_shown


def test_a_second_browser_sees_the_picture_move_live(told):
    assert told.live_to > told.live_from
    assert told.badge_shown
    assert told.size_live[0] >= 640


def test_at_least_two_renditions_can_be_chosen_while_live(told):
    assert len(told.qualities) >= 3, told.qualities
    assert told.least < 720


def test_captions_appear_while_live(captions, told):
    if not captions:
        pytest.skip("NO SPEECH MODEL: captions were not tested")
    assert any(c.isalpha() for c in told.caption)


def test_the_watch_page_carries_on_when_the_recording_becomes_ready(told):
    assert not told.veiled_after
    assert told.download_offered
    assert not told.page_errors


def test_the_recording_says_what_it_holds(told):
    now = told.finished
    assert now["title"] == "Told by a test"
    assert {track["kind"] for track in now["tracks"]} == {"video", "audio"}
    assert abs(now["duration"] - told.elapsed) < 15, (now["duration"], told.elapsed)
    assert len([r for r in now["renditions"] if r["kind"] == "video"]) >= 2, now["renditions"]


def test_every_rendition_of_the_recording_decodes_and_is_equally_long(server, told):
    spans = judges.check_finished(server, told.finished)
    assert sum(kind == "video" for *_, kind in spans.values()) >= 2
    assert any(kind == "audio" for *_, kind in spans.values())


def test_the_download_and_the_poster_are_what_they_say(server, told, tmp_path):
    film = tmp_path / "download.mp4"
    answer = server.http.get(told.finished["download_url"], timeout=180)
    assert answer.status_code == 200, answer.text
    film.write_bytes(answer.content)
    judges.decode(film)
    names = [stream.split(",")[0] for stream in judges.streams(film)]
    assert names == ["aac", "h264"], names
    poster = tmp_path / "poster.jpg"
    poster.write_bytes(server.http.get(told.finished["poster_url"]).raise_for_status().content)
    assert judges.streams(poster)[0].startswith("mjpeg,")
    preview = tmp_path / "preview.mp4"
    preview.write_bytes(server.http.get(told.finished["preview_url"]).raise_for_status().content)
    judges.decode(preview)
    assert [stream.split(",")[0] for stream in judges.streams(preview)] == ["h264"]
    assert preview.stat().st_size <= 200_000


def test_the_transcript_has_every_form_and_its_words_have_times(server, captions, told):
    if not captions:
        pytest.skip("NO SPEECH MODEL: the transcript was not tested")
    base = f"/v1/recordings/{told.recording['id']}/transcript"
    forms = {kind: server.http.get(f"{base}.{kind}") for kind in ("json", "vtt", "srt", "txt")}
    assert {kind: answer.status_code for kind, answer in forms.items()} == dict.fromkeys(forms, 200)
    assert forms["vtt"].text.startswith("WEBVTT")
    assert "-->" in forms["srt"].text
    said = forms["json"].json()
    cues = said.get("cues") or said.get("segments")
    times = [word["start"] for cue in cues for word in cue["words"]]
    assert len(times) > 20 and times == sorted(times)
    assert times[-1] <= told.finished["duration"]


@pytest.mark.slow
def test_the_transcript_is_as_right_as_whisper_cpp_with_the_same_weights(server, captions, told):
    if not captions or not MODEL.exists():
        pytest.skip("NO SPEECH MODEL in ../shared: word errors were not compared with whisper.cpp")
    path = next(path for path, kind in judges.renditions(server, told.finished).items() if kind == "audio")
    heard = material.decoded(judges.url(server, told.finished, path), 16_000)
    ours = server.http.get(f"/v1/recordings/{told.recording['id']}/transcript.txt").text
    theirs = words.by_whisper_cpp(heard)
    said = material.spoken()[0]
    rates = words.error_rate(said, ours), words.error_rate(said, theirs)
    print(f"word error rate: ours {rates[0]:.3f}, whisper.cpp {rates[1]:.3f}\nours: {ours}\ntheirs: {theirs}")
    assert rates[0] <= rates[1] + 0.02


def test_the_subtitles_in_the_stream_are_the_transcript(server, captions, told):
    if not captions:
        pytest.skip("NO SPEECH MODEL: subtitles were not tested")
    ours = server.http.get(f"/v1/recordings/{told.recording['id']}/transcript.txt").text
    shown = judges.caption_text(server, told.finished)
    assert words.error_rate(ours, shown) <= 0.02, shown


@pytest.mark.parametrize("mode", ["screen", "both"])
def test_the_page_records(server, recorder, new_page, mode):
    page = new_page(recorder)
    setting_up(page, server, mode, f"Mode {mode}")
    page.get_by_test_id("record-button").click()
    page.locator('[data-testid=studio][data-phase="recording"]').wait_for(timeout=PATIENCE_MS)
    recording = identifier(page.get_by_test_id("share-link").input_value())
    until(lambda: page.get_by_test_id("elapsed").inner_text() >= "0:05", 60, "five seconds")
    page.keyboard.press("s")
    page.locator('[data-testid=state][data-state="ready"]').wait_for(timeout=PATIENCE_MS)
    judges.check_finished(server, server.show(recording))


def test_the_library_lists_what_was_recorded_and_deletes_it(server, told, recorder, new_page):
    doomed = server.create("Doomed")
    page = new_page(recorder)
    page.goto(server.base)
    card = page.get_by_test_id("library-item").filter(has_text="Doomed")
    card.get_by_test_id("delete").click()
    page.get_by_test_id("confirm-delete").click()
    card.wait_for(state="detached")
    assert server.http.get(f"/v1/recordings/{doomed['id']}").status_code == 404
    assert page.get_by_test_id("library-item").filter(has_text="Told by a test").locator("img").count() == 1
