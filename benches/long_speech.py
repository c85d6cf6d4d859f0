"""LONG_HOURS (10) of speech, looped, through live captions and the pass afterwards: memory stays flat, or it fails. `make long-speech`."""

import os
import re
import subprocess
import sys
import time

import rig
import speech

OURS = rig.ROOT / "target" / "release" / "examples" / "long_run"
HOURS = float(os.environ.get("LONG_HOURS", 10))


def main():
    sound, _ = speech.joined(speech.spoken("librispeech-test-other", " ") + speech.spoken("ljspeech", "|"))
    lines, begun = [], time.monotonic()
    with subprocess.Popen([OURS, rig.MODEL, sound, str(HOURS)], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        sys.exit(process.returncode)
    resident = [int(re.search(r"(\d+) MiB", line)[1]) for line in lines]
    rig.report("long_speech", "Hours of speech in flat memory (no peer: it is our own promise)", rig.table(
        ["sound", "final cues", "resident after 20 minutes", "at most", "at the end", "took"],
        [f"{HOURS:g} h", re.search(r"(\d+) cues", lines[-1])[1], f"{resident[min(1, len(resident) - 1)]} MiB",
         f"{max(resident)} MiB", f"{resident[-1]} MiB", f"{time.monotonic() - begun:.0f} s"],
    ), f"LONG_HOURS={HOURS:g} make long-speech")


if __name__ == "__main__":
    main()
