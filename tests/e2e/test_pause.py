"""A recording that is paused from the page, or by its API: no paused time is in it, and everything goes on."""

import pytest
import pathlib
import time

import judges
import material
from conftest import watchable
from server import until
from test_reconnect import beep_times, check_timeline, packet_times, playlist, plays_to_its_end, segments

PAUSE = 6.0


def duration(server, recording):
    return server.show(recording)["duration"]


def test_a_pause_by_the_api_leaves_no_paused_time_and_is_told(server, publish, chromium, new_page):
    recording = server.create("Paused by the API")
    events = server.events(recording)
    refused = server.http.post(f"/v1/recordings/{recording['id']}/pause")
    assert refused.status_code == 409, "nothing is recorded yet"
    publisher = publish(recording, video=material.flashes(), rate=30, audio=material.beeps())
    until(lambda: watchable(server, recording) > 3, 60, "the first seconds")
    began = time.monotonic()
    rested = 0.0
    for take in range(2):
        for _ in range(2):  # twice is once
            paused = server.http.post(f"/v1/recordings/{recording['id']}/pause")
            assert paused.status_code == 200 and paused.json()["state"] == "paused", paused.text
        resting = time.monotonic()
        at = duration(server, recording)
        time.sleep(PAUSE)
        assert duration(server, recording) == at, "media time stands still"
        for _ in range(2):
            resumed = server.http.post(f"/v1/recordings/{recording['id']}/resume")
            assert resumed.status_code == 200 and resumed.json()["state"] == "live", resumed.text
        rested += time.monotonic() - resting
        until(lambda: duration(server, recording) > at + 6, 60, "it to go on")
    lasted = time.monotonic() - began
    publisher.end()
    ready = server.until_state(recording, "ready")
    states = [data["state"] for name, data in events if name == "state"]
    assert [state for state in states if state in ("live", "paused")] == ["live", "paused", "live", "paused", "live"], states

    assert not ready.setdefault("gaps", [])
    first = check_timeline(server, ready)
    assert sum(segment[3] for segment in first) == 2, f"a discontinuity a pause: {first}"
    assert not any(segment[2] for segment in first), f"no gaps: {first}"
    end = first[-1][0] + first[-1][1]
    assert end < 3 + lasted - rested + 6, f"{end} s recorded, of {lasted} s {rested} s paused"
    # each key flash still lies at its beep, on both sides of a pause
    flashes = judges.flash_times(judges.url(server, ready, "source/index.m3u8"))
    beeps = beep_times(judges.url(server, ready, "aac/index.m3u8"))
    # where a pause cuts a flash or a beep in two is no measure
    cuts = [segment[0] for segment in first if segment[3]]
    whole = lambda times: [at for at in times if all(abs(at - cut) > 1 for cut in cuts)]  # noqa: E731
    print("cuts", cuts, "flashes", flashes, "beeps", beeps, "end", end)
    offsets = judges.sync_offsets(whole(flashes), whole(beeps))
    assert len(offsets) >= 6 and sorted(map(abs, offsets))[len(offsets) * 8 // 10] <= 0.060, offsets
    plays_to_its_end(new_page(chromium()), ready, end)


@pytest.mark.slow
def test_a_publisher_may_go_and_come_back_while_the_recording_is_paused(server, publish):
    recording = server.create("Paused and left")
    publisher = publish(recording, video=material.flashes(), rate=30, audio=material.beeps())
    until(lambda: watchable(server, recording) > 2, 60, "the first seconds")
    assert server.http.post(f"/v1/recordings/{recording['id']}/pause").is_success
    publisher.vanish()
    time.sleep(7)
    assert server.show(recording)["state"] == "paused", "nobody is missed while it is paused"
    at = duration(server, recording)
    publisher = publish(recording, video=material.flashes(), rate=30, audio=material.beeps())
    taken = "another session takes the publisher's place during a pause"
    until(lambda: f"{taken} recording={recording['id']}" in server.log.read_text(), 60, "the new session to be taken in")
    time.sleep(2)
    assert server.show(recording)["state"] == "paused" and duration(server, recording) == at
    assert server.http.post(f"/v1/recordings/{recording['id']}/resume").json()["state"] == "live"
    until(lambda: duration(server, recording) > at + 3, 60, "it to go on")
    # and the other way round: it is resumed before the publisher is back
    assert server.http.post(f"/v1/recordings/{recording['id']}/pause").is_success
    publisher.vanish()
    time.sleep(7)
    assert server.http.post(f"/v1/recordings/{recording['id']}/resume").json()["state"] == "reconnecting"
    at = duration(server, recording)
    publisher = publish(recording, video=material.flashes(), rate=30, audio=material.beeps())
    server.until_state(recording, "live")
    until(lambda: duration(server, recording) > at + 3, 60, "it to go on")
    publisher.end()
    ready = server.until_state(recording, "ready")
    assert len(ready["gaps"]) == 1 and ready["gaps"][0]["to"] - ready["gaps"][0]["from"] < 6, ready["gaps"]
    check_timeline(server, ready)


def test_a_paused_recording_can_be_stopped(server, publish):
    recording = server.create("Paused to its end")
    publisher = publish(recording, video=material.flashes(), rate=30, audio=material.beeps())
    until(lambda: watchable(server, recording) > 2, 60, "the first seconds")
    assert server.http.post(f"/v1/recordings/{recording['id']}/pause").is_success
    server.stop(recording)
    ready = server.until_state(recording, "ready")
    assert ready["duration"] > 2
    again = server.http.post(f"/v1/recordings/{recording['id']}/resume")
    assert again.status_code == 409, again.text
    publisher.vanish()


def test_the_page_pauses_and_goes_on_and_a_viewer_sees_both(server, recorder, chromium, tmp_path):
    context = recorder.new_context(viewport={"width": 1280, "height": 800})
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(f"recorder: {error}"))
    page.goto(server.base)
    page.get_by_test_id("mode-camera").check(force=True)
    page.get_by_test_id("record-button").click()
    page.locator('[data-testid=studio][data-phase="recording"]').wait_for(timeout=120_000)
    link = page.get_by_test_id("share-link").input_value()
    recording = {"id": link.rstrip("/").rsplit("/", 1)[1]}
    viewer = chromium().new_context(viewport={"width": 1280, "height": 800}).new_page()
    viewer.on("pageerror", lambda error: errors.append(f"viewer: {error}"))
    viewer.goto(link)
    now = lambda: viewer.evaluate("() => document.querySelector('video').currentTime")  # noqa: E731
    until(lambda: now() > 1, 120, "the first pictures")

    page.get_by_test_id("pause-button").click()
    page.locator('[data-testid=pause-button][aria-pressed="true"]').wait_for()
    viewer.locator('main[data-state="paused"]').wait_for()
    shown = page.get_by_test_id("elapsed").inner_text()
    page.screenshot(path=tmp_path / "paused.png")
    viewer.screenshot(path=tmp_path / "viewer.png")
    print(f"pictures of the pause: {pathlib.Path(tmp_path)}")
    at = duration(server, recording)
    time.sleep(PAUSE + 3)
    assert page.get_by_test_id("elapsed").inner_text() == shown and shown.startswith("Paused"), shown
    assert duration(server, recording) == at
    page.keyboard.press("p")
    page.locator('[data-testid=pause-button][aria-pressed="false"]').wait_for()
    viewer.locator('main[data-state="live"]').wait_for()
    until(lambda: now() > at + 2, 60, "the viewer to see what comes after the pause")
    page.get_by_test_id("stop-button").click()
    ready = server.until_state(recording, "ready", seconds=300)
    assert not errors, errors
    assert ready["duration"] < at + 30
    times = packet_times(judges.url(server, ready, "source/index.m3u8"))
    assert all(here < there for here, there in zip(times, times[1:]))
    # a picture that was still on its way when the pause began is left out
    text = playlist(server, ready, "source/index.m3u8")
    assert sum(length for _, length, gap, _ in segments(text) if gap) < 0.5, text
