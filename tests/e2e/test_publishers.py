"""Recordings published by aiortc."""

import pytest

import judges
import material
from server import Server, until

LISTENS = True


@pytest.mark.parametrize("codec", ["h264", pytest.param("vp8", marks=pytest.mark.slow)])
def test_aiortc_publishes_and_the_recording_becomes_ready(server, captions, publish, codec):
    recording = server.create(f"aiortc {codec}")
    publish(recording, codec, seconds=14).wait()
    ready = server.until_state(recording, "ready")
    assert [track["codec"] for track in ready["tracks"] if track["kind"] == "video"] == [codec]
    spans = judges.check_finished(server, ready)
    assert all(end - start > 8 for start, end, *_ in spans.values()), spans
    kept = [r for r in ready["renditions"] if r["id"] == "source"]
    assert bool(kept) == (codec == "h264"), "H.264 is kept as it came, and nothing else is"
    if captions:
        said = server.http.get(f"/v1/recordings/{ready['id']}/transcript.txt").text
        assert len(said.split()) > 10, said


def test_words_of_a_list_are_told_of_while_they_are_said(captions, publish, tmp_path):
    if not captions:
        pytest.skip("NO SPEECH MODEL: a word list was not tested")
    words = tmp_path / "words.txt"
    words.write_text("the\tarticle\nthat nobody says this\n")
    server = Server(tmp_path, LOOM_WORD_LIST=str(words), LOOM_LADDER="source")
    try:
        recording = server.create("words")
        told = server.events(recording)
        publish(recording, video=None, audio_only=True, seconds=60)
        found = until(lambda: [data["findings"] for name, data in told if name == "findings"], 90, "a word of the list")
        assert all(it["label"] == "article" and it["text"].lower().strip(",.") == "the" for it in found[0]), found
        assert all(0 <= it["start"] < it["end"] for it in found[0]), found
    finally:
        server.close()


@pytest.mark.alone
def test_flash_and_beep_stay_together(server, publish):
    recording = server.create("flash and beep")
    publish(recording, "h264", video=material.flashes(), rate=30, audio=material.beeps(), seconds=14).wait()
    ready = server.until_state(recording, "ready")
    kinds = judges.renditions(server, ready)
    beeps = {path: judges.beep_times(judges.url(server, ready, path)) for path, kind in kinds.items() if kind == "audio"}
    for video in (path for path, kind in kinds.items() if kind == "video"):
        flashes = judges.flash_times(judges.url(server, ready, video))
        for audio, times in beeps.items():
            offsets = judges.sync_offsets(flashes, times)
            print(video, audio, [round(offset * 1000) for offset in offsets], "ms")
            assert len(offsets) >= 8, (flashes, times)
            assert max(map(abs, offsets)) <= 0.050, (video, audio, offsets)
