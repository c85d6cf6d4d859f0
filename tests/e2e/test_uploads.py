"""Files that become recordings."""

import judges
import material


def test_an_mp4_of_a_film_becomes_a_ready_recording(server):
    film = material.film_mp4()
    recording = server.create("A film")
    answer = server.upload(recording, film.read_bytes(), "video/mp4")
    assert answer.status_code == 202, answer.text
    ready = server.until_state(recording, "ready", seconds=300)
    spans = judges.check_finished(server, ready)
    _, end, _ = judges.span(film)
    assert abs(max(end for _, end, *_ in spans.values()) - end) < 0.2
    # A picture that was there is there still, once each.
    frames = {path: count for path, (_, _, count, kind) in spans.items() if kind == "video"}
    assert len(set(frames.values())) == 1, frames


def test_a_webm_of_a_screen_becomes_a_ready_recording(server):
    film = material.screen_webm()
    recording = server.create("A screen")
    events = server.events(recording)
    answer = server.upload(recording, film.read_bytes(), "video/webm")
    assert answer.status_code == 202, answer.text
    ready = server.until_state(recording, "ready", seconds=300)
    judges.check_finished(server, ready)
    assert [r["kind"] for r in ready["renditions"]].count("audio") == 0, ready["renditions"]
    told = [data["state"] for name, data in events if name == "state"]
    assert told[-1] == "ready" and "processing" in told, told


def test_a_file_uploaded_through_the_page_can_be_watched(server, recorder, new_page):
    page = new_page(recorder)
    page.goto(server.base)
    page.get_by_test_id("upload-file").set_input_files(material.screen_webm())
    page.locator('[data-testid=state][data-state="ready"]').wait_for(timeout=300_000)
    page.get_by_test_id("watch-link").click()
    page.get_by_role("button", name="Play", exact=True).last.wait_for()
    page.keyboard.press("k")
    page.wait_for_function("() => document.querySelector('video').currentTime > 1")
    # in the list it shows its moments to whoever points at it
    page.goto(server.base)
    page.get_by_test_id("library-item").first.hover()
    page.wait_for_function("() => document.querySelector('[data-testid=moments]')?.currentTime > 0.5")
    page.mouse.move(0, 0)
    page.get_by_test_id("moments").wait_for(state="detached")
