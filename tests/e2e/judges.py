"""What others' code says of what Loom wrote: ffprobe, ffmpeg and libav judge, never our own reader."""

import pathlib
import re
import subprocess
import tempfile

import av
import numpy


def renditions(server, recording):
    """{path: 'video' | 'audio' | 'subtitles'} of every media playlist: those that the multivariant playlist names, and those
    that are kept beside it."""
    answer = server.http.get(f"/v1/recordings/{recording['id']}/hls/main.m3u8")
    assert answer.status_code == 200, answer.text
    kept = {f"{rendition['id']}/index.m3u8": rendition["kind"] for rendition in server.show(recording)["renditions"]}
    return kept | named(answer.text)


def named(main):
    """The same of those that a multivariant playlist names."""
    assert main.startswith("#EXTM3U"), main
    found = {path: "video" for path in re.findall(r"^#EXT-X-STREAM-INF:.*\n(\S+)", main, re.M)}
    for line in re.findall(r"^#EXT-X-MEDIA:(.*)", main, re.M):
        kind, path = re.search(r"TYPE=([A-Z-]+)", line), re.search(r'URI="([^"]+)"', line)
        if path:
            found[path[1]] = kind[1].lower()
    return found


def url(server, recording, path):
    return f"{server.base}/v1/recordings/{recording['id']}/hls/{path}"


def decode(target):
    """Decodes everything; any complaint is a failure."""
    # Without a time base of its own, the null muxer counts in whole pictures and complains where two fall on one number.
    times = ["-fps_mode", "passthrough", "-enc_time_base:v", "1:90000"]
    done = subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-xerror", "-i", str(target), "-map", "0", *times, "-f", "null", "-"],
        capture_output=True, text=True, timeout=300,
    )
    assert done.returncode == 0 and not done.stderr.strip(), f"ffmpeg on {target}: {done.returncode}\n{done.stderr}"


def span(target):
    """(first presentation time, end of the last packet, packets) in seconds, as ffprobe reads them."""
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "packet=pts_time,duration_time", "-of", "csv=p=0", str(target)],
        capture_output=True, text=True, timeout=300,
    )
    assert done.returncode == 0 and not done.stderr.strip(), f"ffprobe on {target}: {done.stderr}"
    rows = [line.split(",")[:2] for line in done.stdout.split() if line]
    times = [(float(pts), float(length) if length not in ("", "N/A") else 0.0) for pts, length in rows]
    assert times, f"ffprobe found no packet in {target}"
    return min(at for at, _ in times), max(at + length for at, length in times), len(times)


def joined(server, recording, path, folder):
    """A rendition's init segment and segments as the one fragmented MP4 file that they make up (ISO/IEC 23000-19 §7.3)."""
    text = server.http.get(url(server, recording, path)).text
    parts = re.findall(r'#EXT-X-MAP:URI="([^"]+)"', text)[:1] + [line for line in text.split() if not line.startswith("#")]
    base = path.rsplit("/", 1)[0]
    file = folder / f"{base}.mp4"
    file.write_bytes(b"".join(server.http.get(url(server, recording, f"{base}/{part}")).content for part in parts))
    return file


def end(file):
    """Where the last sample ends, seconds, as ffprobe adds the samples up. Its HLS reader would guess the last one's length."""
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(file)],
        capture_output=True, text=True, timeout=300,
    )
    assert done.returncode == 0 and not done.stderr.strip(), f"ffprobe on {file}: {done.stderr}"
    return float(done.stdout)


def streams(target):
    """ffprobe's codec, width and height of each stream."""
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "stream=codec_name,width,height", "-of", "csv=p=0", str(target)],
        capture_output=True, text=True, timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return sorted({line.rstrip(",") for line in done.stdout.split()})


def check_finished(server, recording):
    """Every rendition decodes without a complaint, all are equally long, picture and sound begin together."""
    spans = {}
    for path, kind in renditions(server, recording).items():
        playlist = server.http.get(url(server, recording, path)).text
        assert "#EXT-X-ENDLIST" in playlist, f"{path} has no end:\n{playlist}"
        if kind == "subtitles":
            continue
        decode(url(server, recording, path))
        start, _, count = span(url(server, recording, path))
        with tempfile.TemporaryDirectory() as folder:
            spans[path] = (start, end(joined(server, recording, path, pathlib.Path(folder))), count, kind)
    report = "\n".join(f"  {path}: {start:.3f} … {stop:.3f} s, {count} packets" for path, (start, stop, count, _) in spans.items())
    print(report)
    assert any(kind == "video" for *_, kind in spans.values()), "nothing to see"
    lengths = [stop - start for start, stop, *_ in spans.values()]
    assert max(lengths) - min(lengths) <= 0.100, f"the renditions' durations differ:\n{report}"
    starts = [start for start, *_ in spans.values()]
    assert max(starts) - min(starts) <= 0.050, f"the renditions do not begin together:\n{report}"
    return spans


def caption_text(server, recording):
    """What the stream's own subtitles say, read by ffmpeg. A cue stands in every segment that it reaches into."""
    said = {}
    for path, kind in renditions(server, recording).items():
        if kind != "subtitles":
            continue
        folder = path.rsplit("/", 1)[0]
        playlist = server.http.get(url(server, recording, path)).text
        for name in re.findall(r"^(?!#)(\S+)", playlist, re.M):
            segment = server.http.get(url(server, recording, f"{folder}/{name}"))
            assert segment.status_code == 200 and segment.text.startswith("WEBVTT"), segment.text
            done = subprocess.run(
                ["ffmpeg", "-v", "error", "-f", "webvtt", "-i", "-", "-f", "srt", "-"],
                input=segment.text, capture_output=True, text=True, timeout=60,
            )
            # A segment in which nobody speaks holds no cue, which ffmpeg cannot turn into a file.
            for cue in re.findall(r"^(\d\d:.*-->.*)\n((?:.+\n)+)", done.stdout, re.M):
                said[cue] = cue[1]
    return " ".join(said.values())


def flash_times(target):
    """When the picture turns from black to white, by libav."""
    times, before = [], 255.0
    with av.open(target) as film:
        for frame in film.decode(video=0):
            light = float(frame.reformat(width=32, height=18, format="gray").to_ndarray().mean())
            if light > 128 > before:
                times.append(frame.time)
            before = light
    return times


def beep_times(target):
    """When a tone begins, to a millisecond, by libav."""
    pieces, rate, start = [], 0, None
    with av.open(target) as sound:
        resampler = av.AudioResampler(format="flt", layout="mono")
        for frame in sound.decode(audio=0):
            start, rate = frame.time if start is None else start, frame.sample_rate
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
    samples = numpy.abs(numpy.concatenate(pieces))
    step = rate // 1000
    loud = samples[: len(samples) // step * step].reshape(-1, step).max(axis=1) > 0.1
    times, quiet = [], 0
    for index, now in enumerate(loud):
        if now and quiet >= 300:
            times.append(start + index / 1000)
        quiet = 0 if now else quiet + 1
    return times


def sync_offsets(flashes, beeps):
    """Seconds by which the picture is later than its sound, one for each flash that has a beep near it."""
    return [min((flash - beep for beep in beeps), key=abs) for flash in flashes if beeps and min(abs(flash - beep) for beep in beeps) < 0.4]
