"""What is recorded: real material from ../shared where it is there, generated stand-ins where it is not."""

import functools
import os
import pathlib
import subprocess
import sys
import wave

import numpy

from server import ROOT, SHARED

CACHE = ROOT / ".cache" / "e2e"
FFMPEG = ["ffmpeg", "-nostdin", "-v", "error", "-y"]
RATE = 48_000

# Sentences without figures, which recognisers are free to spell either way.
SENTENCES = ("0003", "0004", "0005", "0006", "0009", "0010", "0011", "0012")
STAND_IN = (
    "this is a recording made for a test. a voice from a machine reads these lines at an even pace. "
    "the captions should follow what it says, and the transcript should hold every word of it. "
    "when the recording ends, the words stay, and anybody who has the link can read them."
)


def made(name, make):
    """A file of the cache; `make(path)` writes it when it is not there."""
    path = CACHE / name
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{os.getpid()}-{name}")
        make(partial)
        partial.rename(path)
    return path


def by_ffmpeg(name, *arguments):
    return made(name, lambda path: subprocess.run([*FFMPEG, *map(str, arguments), path], check=True))


def screen():
    """ffmpeg's input for a film of a screen, without end."""
    film = SHARED / "media" / "screen" / "spyder-files-commit.webm"
    if film.exists():
        return ["-stream_loop", "-1", "-i", film]
    return ["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=10"]


FIT = "scale=1280:720:force_original_aspect_ratio=decrease,pad=1280:720:-1:-1,format=yuv420p"


def camera():
    """The screen as a camera's picture: 1280x720 at the film's own 10 a second, as Chromium reads it."""
    return by_ffmpeg("camera.y4m", *screen(), "-an", "-vf", FIT, "-r", "10", "-t", "8", "-pix_fmt", "yuv420p")


@functools.cache
def spoken():
    """(what is said, its samples as mono int16 at 48 kHz)"""
    folder = SHARED / "media" / "speech" / "ljspeech"
    pause = numpy.zeros(RATE * 2 // 5, numpy.int16)
    pieces, words = [], []
    if folder.exists():
        texts = dict(line.split("|", 1) for line in (folder / "trans.txt").read_text().splitlines() if "|" in line)
        for number in SENTENCES:
            pieces += [decoded(folder / f"LJ001-{number}.flac"), pause]
            words.append(texts[f"LJ001-{number}"])
        return " ".join(words), numpy.concatenate(pieces)
    voice = made("stand-in.wav", lambda path: subprocess.run(["espeak-ng", "-s", "150", "-w", path, STAND_IN], check=True))
    return STAND_IN, numpy.concatenate([decoded(voice), pause])


def decoded(path, rate=RATE):
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", path, "-f", "s16le", "-ac", "1", "-ar", str(rate), "-"]
    return numpy.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, numpy.int16)


def write_wav(path, samples):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(samples.tobytes())


LEAD_SECONDS = 5


def microphone():
    """What is said, after a silence in which the recording gets under way."""
    silence = numpy.zeros(RATE * LEAD_SECONDS, numpy.int16)
    return made("microphone.wav", lambda path: write_wav(path, numpy.concatenate([silence, spoken()[1], silence])))


def speech(seconds):
    """The beginning of what is said."""
    return made(f"speech-{seconds}s.wav", lambda path: write_wav(path, spoken()[1][: RATE * seconds]))


X264 = ["-c:v", "libx264", "-preset", "veryfast", "-profile:v", "baseline", "-bf", "0", "-sc_threshold", "0"]


def screen_h264():
    """8 s of the screen, 1280x720 at 15 a second, a key frame every 2 s, as a bare H.264 stream."""
    shape = ["-an", "-vf", FIT, "-r", "15", "-t", "8"]
    return by_ffmpeg("screen.h264", *screen(), *shape, *X264, "-g", "30", "-b:v", "1500k", "-f", "h264")


def screen_vp8():
    shape = ["-an", "-vf", FIT, "-r", "15", "-t", "8"]
    codec = ["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-g", "30", "-b:v", "1500k", "-f", "ivf"]
    return by_ffmpeg("screen.ivf", *screen(), *shape, *codec)


def slides(codec):
    """A picture that changes every three seconds and stands still between, 1280x720 at 15 a second all the while."""
    picture = "testsrc2=size=1280x720:rate=1/3,fps=15,format=yuv420p"
    if codec == "vp8":
        how = ["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-g", "30", "-b:v", "1500k", "-f", "ivf"]
    else:
        how = [*X264, "-g", "30", "-b:v", "1500k", "-f", "h264"]
    return by_ffmpeg(f"slides.{codec}", "-f", "lavfi", "-i", picture, "-t", "12", *how)


def flashes(keys=60, size="640x360"):
    """White for the first tenth of each second, black else: at 30 a second, with a key frame every so many."""
    picture = f"color=black:size={size}:rate=30,drawbox=color=white:thickness=fill:enable='lt(mod(t,1),0.099)',format=yuv420p"
    name = f"flashes-{keys}" if size == "640x360" else f"flashes-{keys}-{size}"
    return by_ffmpeg(f"{name}.h264", "-f", "lavfi", "-i", picture, "-t", "10", *X264, "-g", keys, "-f", "h264")


def beeps():
    """A tone in the first tenth of each second."""
    tone = "aevalsrc='if(lt(mod(t,1),0.1),0.5*sin(2*PI*1000*t),0)':sample_rate=48000"
    return by_ffmpeg("beeps.wav", "-f", "lavfi", "-i", tone, "-t", "10", "-c:a", "pcm_s16le")


def spoken_film():
    """A film in which somebody speaks for 25 s."""
    picture = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=15", "-i", speech(25)]
    shape = ["-t", "25", "-c:v", "libx264", "-preset", "ultrafast", "-g", "30", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    return by_ffmpeg("spoken.mp4", *picture, *shape)


def published(recording, video, rate, seconds):
    """A process (publisher.py) that publishes pictures and beeps to a recording, and says nothing."""
    command = [
        sys.executable, pathlib.Path(__file__).with_name("publisher.py"), "--url", recording["whip_url"], "--token", recording["whip_token"],
        "--codec", "h264", "--video", video, "--rate", rate, "--audio", beeps(), "--seconds", seconds, "--no-hang-up",
    ]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(list(map(str, command)), **quiet)


def film_mp4():
    """The film in ../shared at 480p, or a generated one of the same kind: H.264 and AAC."""
    film = SHARED / "media" / "natural" / "big-buck-bunny-480p-30sec.mp4"
    if film.exists():
        return film
    picture = ["-f", "lavfi", "-i", "testsrc2=size=854x480:rate=24", "-f", "lavfi", "-i", "sine=frequency=330:sample_rate=48000"]
    return by_ffmpeg("film.mp4", *picture, "-t", "20", "-c:v", "libx264", "-preset", "veryfast", "-g", "48", "-pix_fmt", "yuv420p", "-c:a", "aac")


def screen_webm():
    """A screen recording without sound, VP9."""
    film = SHARED / "media" / "screen" / "spyder-editor-syntax-highlighting.webm"
    if film.exists():
        return film
    codec = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "100"]
    return by_ffmpeg("screen.webm", *screen(), "-an", "-vf", FIT, "-r", "10", "-t", "15", *codec)
