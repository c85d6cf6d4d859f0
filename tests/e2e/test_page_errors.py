"""What the page says when something goes wrong: plain words, and nothing left behind."""

import socket

import pytest

from server import Server


def press_record(page, server, mode="camera"):
    page.goto(server.base)
    page.get_by_test_id(f"mode-{mode}").check(force=True)
    page.get_by_test_id("record-button").click()


def told(page):
    page.get_by_test_id("error").wait_for(timeout=60_000)
    return page.get_by_test_id("error-title").inner_text(), page.get_by_test_id("error-detail").inner_text()


def states(server):
    return [recording["state"] for recording in server.http.get("/v1/recordings").json()["recordings"]]


def test_a_refused_permission_is_told_in_plain_words(server, chromium, new_page):
    page = new_page(chromium("--use-fake-device-for-media-stream", "--deny-permission-prompts"))
    press_record(page, server)
    title, detail = told(page)
    assert title == "This page is not allowed to use your camera."
    assert "allow the camera" in detail


def test_a_missing_camera_is_told_in_plain_words(server, chromium, new_page):
    page = new_page(chromium("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream=device-count=0"))
    press_record(page, server)
    assert told(page)[0] == "The browser found no camera."


def test_a_missing_microphone_can_be_done_without(server, recorder, new_page):
    page = new_page(recorder)
    page.add_init_script("""
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = (wanted) => wanted.audio
            ? Promise.reject(new DOMException('Requested device not found', 'NotFoundError')) : open(wanted);
    """)
    press_record(page, server)
    assert told(page)[0] == "The browser found no microphone."
    page.get_by_role("button", name="Record without sound").click()
    page.locator('[data-testid=studio][data-phase="recording"]').wait_for(timeout=60_000)
    page.get_by_test_id("stop-button").click()
    page.locator("[data-testid=state][data-state]:not([data-state=processing])").wait_for(timeout=60_000)


def test_a_server_that_is_gone_is_told_in_plain_words(server, recorder, new_page):
    page = new_page(recorder)
    page.goto(server.base)
    page.context.set_offline(True)
    page.get_by_test_id("mode-camera").check(force=True)
    page.get_by_test_id("record-button").click()
    assert told(page)[0] == "The server cannot be reached."
    page.context.set_offline(False)


def test_a_refused_token_is_told_in_the_servers_own_words(server, recorder, new_page):
    page = new_page(recorder)
    before = len(states(server))
    page.route("**/whip", lambda route: route.continue_(headers={**route.request.headers, "authorization": "Bearer wrong"}))
    press_record(page, server)
    title, detail = told(page)
    assert title == "The server refused to take the video."
    assert "token" in detail
    # What came to nothing is taken away again.
    page.wait_for_function("async (n) => (await (await fetch('/v1/recordings')).json()).recordings.length === n", arg=before)


def test_a_connection_that_cannot_be_made_is_told_in_plain_words(tmp_path, recorder, new_page):
    # an address that leads nowhere (RFC 5737), by UDP as by TCP
    server = Server(tmp_path, LOOM_CAPTIONS="off", LOOM_ANNOUNCE="192.0.2.1")
    try:
        page = new_page(recorder)
        press_record(page, server)
        title, detail = told(page)
        assert title == "No media connection to the server."
        assert "firewall" in detail
    finally:
        server.close()


def test_a_browser_without_webrtc_is_told_so(server, recorder, new_page):
    page = new_page(recorder)
    page.add_init_script("delete window.RTCPeerConnection")
    page.goto(server.base)
    assert told(page)[0] == "This browser cannot record."
    assert page.get_by_test_id("record-button").is_disabled()


def test_an_insecure_address_is_told_in_plain_words(tmp_path, recorder, new_page):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Nothing is sent: this only asks which address of this machine others would see.
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("NO NETWORK ADDRESS besides loopback: the insecure page was not tested")
        address = probe.getsockname()[0]
    server = Server(tmp_path, host=address, LOOM_CAPTIONS="off")
    try:
        page = new_page(recorder)
        page.goto(server.base)
        title, detail = told(page)
        assert title == "This address is not secure, so the browser forbids recording."
        assert "https://" in detail
    finally:
        server.close()


def test_a_link_to_nothing_says_so(server, recorder, new_page):
    page = new_page(recorder)
    page.goto(f"{server.base}/w/nothing-here")
    page.get_by_text("There is no recording at this link.").wait_for()
