"""A file to fMP4 segments and playlists, beside `ffmpeg -c copy -f hls -hls_segment_type fmp4`: processor seconds and memory.

`make bench-packaging IN=FILE.mp4` builds what this runs. The file is H.264 and AAC, best 800 MB or more; both write into a folder
beside it, in turn, and both write whole segments of about four seconds. Memory is told for a short piece of the file as well.
"""

import itertools
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
PAIRS = 5
# where a run writes, in its command
OUT, LIST = object(), object()


def cost(command):
    """Processor seconds, user and system, and the most memory, MiB."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main(ours, source):
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        # a folder each, and nothing is deleted meanwhile: ext4 looks long for a new file's place where many were deleted a minute ago
        folders = (pathlib.Path(folder) / str(number) for number in itertools.count())

        def run(command):
            out = next(folders)
            out.mkdir()
            os.sync()
            return cost([str(out) if it is OUT else str(out / "index.m3u8") if it is LIST else it for it in command])

        loom = [ours, str(source), OUT]
        ffmpeg = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", "-i", str(source), "-c", "copy", "-f", "hls"]
        ffmpeg += ["-hls_time", "4", "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4", LIST]
        run(loom)
        pairs = [(run(loom), run(ffmpeg)) for _ in range(PAIRS)]
        short = source.with_name(f"{source.stem}-short.mp4")
        cut = ["ffmpeg", "-loglevel", "error", "-y", "-i", str(source), "-t", "60", "-c", "copy", str(short)]
        subprocess.run(cut, check=True)
        _, small = run([ours, str(short), OUT])
        short.unlink()
    ratio = statistics.median(a[0] / b[0] for a, b in pairs)
    gigabytes = source.stat().st_size / 1e9
    for name, at in [("loom", 0), ("ffmpeg", 1)]:
        seconds = statistics.median(pair[at][0] for pair in pairs)
        memory = max(pair[at][1] for pair in pairs)
        print(f"{name}: {seconds:.2f} CPU-s, {seconds / gigabytes:.2f} a GB, {memory:.0f} MiB")
    print(f"loom with the first minute: {small:.0f} MiB")
    print(f"ratio of {PAIRS} pairs, median: {ratio:.2f}")


if __name__ == "__main__":
    main(str(HERE / "packaging/target/release/loom-bench-packaging"), pathlib.Path(sys.argv[1]).resolve())
