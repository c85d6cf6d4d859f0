"""What the guide tells to type around the engine: installing a server, asking GStreamer, holding another WHIP server to the RFC."""

import configparser
import os
import shutil
import subprocess

import pytest

import server as e2e
from documented import GUIDE, ROOT, blocks, documented, put_release
from server import BINARY, Server
from test_examples import TOKEN, Host


def test_the_server_is_installed_and_starts_as_the_service_says(tmp_path, monkeypatch):
    put_release(BINARY, tmp_path)
    (tmp_path / "bin").mkdir()
    line = documented("docs/src/deploying.md", "install target/release/loom-server")
    subprocess.run(["bash", "-c", line.replace("/usr/local/bin", str(tmp_path / "bin"))], cwd=tmp_path, check=True)
    unit = configparser.ConfigParser()
    unit.optionxform = str
    ((said, _),) = blocks(GUIDE / "deploying.md", "ini")
    unit.read_string(said)
    service = unit["Service"]
    settings = dict(it.split("=", 1) for it in service["Environment"].split())
    assert settings.pop("LOOM_DATA_DIR") == f"/var/lib/{service['StateDirectory']}"
    assert settings.pop("LOOM_UDP") == "8189"
    # of all that the unit says, the paths and ports are those of the test
    assert service["ExecStart"].startswith("/usr/local/bin/")
    monkeypatch.setattr(e2e, "BINARY", service["ExecStart"].replace("/usr/local/bin", str(tmp_path / "bin")))
    server = Server(tmp_path, LOOM_CAPTIONS="off", **settings)
    try:
        assert server.create()["whip_url"].startswith(f"{settings['LOOM_PUBLIC_URL']}/v1/")
    finally:
        server.close()


@pytest.mark.parametrize("element, there", [("x264enc", True), ("no-such-element", False)])
def test_gstreamer_says_whether_it_has_an_element(element, there):
    if not shutil.which("gst-inspect-1.0"):
        pytest.skip("NO gst-inspect-1.0: what the guide says of it was not tried")
    line = documented("docs/src/gpu.md", "gst-inspect-1.0")
    assert line.endswith(" nvh264enc"), line
    asked = subprocess.run(["bash", "-c", line.replace("nvh264enc", element)], capture_output=True, text=True, timeout=60)
    assert (asked.returncode == 0) == there, asked.stdout[-1000:] + asked.stderr


@pytest.mark.slow
def test_the_whip_suite_holds_a_server_that_is_not_its_own_to_the_rfc(tmp_path):
    """That of `embed-custom`, which has other HTTP code around the engine's."""
    host = Host(tmp_path / "custom", documented("docs/src/embedding.md", "-p embed-custom"), "/alice/whip")
    try:
        host.begun()
        line = documented("CONTRIBUTING.md", "pytest tests/whip")
        line = line.replace("=URL ", f"={host.base}{host.path} ").replace("=TOKEN ", f"={TOKEN} ")
        tried = subprocess.run(["bash", "-c", line], cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=300)
    finally:
        host.close()
    print(tried.stdout[-6000:])
    assert tried.returncode == 0, tried.stderr
    assert " passed" in tried.stdout and f"LOOM_WHIP_URL={host.base}" in line
