"""Uploaded files are read in processes of their own: what ends these ends nothing else."""

import os
import pathlib
import signal
import threading
import time

import judges
import material
from server import Server, problem, until


def workers(server):
    """The processes that read files for the server."""
    found = []
    for children in pathlib.Path(f"/proc/{server.process.pid}/task").glob("*/children"):
        try:
            found += [int(pid) for pid in children.read_text().split()]
        except OSError:
            pass  # the thread has ended
    return found


class Killer(threading.Thread):
    """Ends them by SIGSEGV, as a broken decoder does: every one, or every so many seconds one."""

    def __init__(self, server, every=0.0, most=10**9):
        super().__init__(daemon=True)
        self.server, self.every, self.most, self.killed, self.over = server, every, most, set(), threading.Event()
        self.start()

    def run(self):
        while not self.over.is_set() and len(self.killed) < self.most:
            for pid in sorted(set(workers(self.server)) - self.killed):
                self.kill(pid)
                self.over.wait(self.every)
                break
            else:
                time.sleep(0.001)

    def kill(self, pid):
        """Rust's own handler lets one pass that no instruction has raised, and is gone then."""
        for _ in range(2):
            try:
                os.kill(pid, signal.SIGSEGV)
                time.sleep(0.01)
            except ProcessLookupError:
                pass
        self.killed.add(pid)

    def end(self):
        self.over.set()
        self.join()
        return len(self.killed)


def film():
    return material.by_ffmpeg(
        "apart.mp4", "-f", "lavfi", "-i", "testsrc2=size=848x480:rate=24", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000",
        "-t", "16", "-c:v", "libx264", "-preset", "veryfast", "-g", "96", "-pix_fmt", "yuv420p", "-c:a", "aac",
    ).read_bytes()


def test_a_file_that_crashes_whatever_reads_it_is_refused_and_a_recording_beside_it_is_whole(server, publish):
    live = server.create("Beside it")
    publisher = publish(live, "h264", seconds=12)
    server.until_state(live, "live")

    crashing = server.create("Crashes")
    killer = Killer(server)
    answer = server.upload(crashing, film(), "video/mp4")
    assert killer.end() >= 2, "it is tried twice"
    assert answer.status_code == 422, answer.text
    told = problem(answer)
    assert "SIGSEGV" in told and "look at the file" in told, told
    failed = server.show(crashing)
    assert failed["state"] == "failed" and "SIGSEGV" in failed["reason"], failed

    killed = server.create("Killed now and then")
    killer = Killer(server, every=0.4, most=5)
    assert server.upload(killed, film(), "video/mp4").status_code in (202, 422)
    ended = server.until_state(killed, "ready", "failed", seconds=120)
    assert killer.end() >= 1
    assert ended["state"] == "ready" or len(ended["reason"].split()) > 4, ended

    publisher.wait()
    ready = server.until_state(live, "ready")
    spans = judges.check_finished(server, ready)
    assert all(end - start > 6 for start, end, *_ in spans.values()) and not ready.get("gaps"), (spans, ready)
    good = server.create("Good")
    assert server.upload(good, film(), "video/mp4").status_code == 202
    judges.check_finished(server, server.until_state(good, "ready", seconds=120))
    until(lambda: not workers(server), 30, "every process that read a file to be gone")


def test_what_reads_a_file_ends_with_the_server(tmp_path):
    server = Server(tmp_path, LOOM_CAPTIONS="off")
    try:
        recording = server.create("Cut off")
        assert server.upload(recording, film(), "video/mp4").status_code == 202
        readers = until(lambda: workers(server), 30, "a process that reads it", every=0.005)
    finally:
        server.process.kill()
        server.process.wait()
        server.http.close()
    gone = lambda pid: not pathlib.Path(f"/proc/{pid}").exists() or pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] == "Z"  # noqa: E731
    until(lambda: all(gone(pid) for pid in readers), 30, "its processes to end")
