"""A peer that reads paths of 16 kHz mono f32 files, one a line, and answers each with a line of text.

    python peer.py faster-whisper|whisper.cpp WEIGHTS THREADS [COMPUTE_TYPE]

Greedy, no fallback to warmer temperatures, no text carried from one window to the next, timestamps on: as `by_line` decodes.
"""

import sys

import numpy


def faster_whisper(weights, threads, compute_type):
    from faster_whisper import WhisperModel

    model = WhisperModel(weights, device="cpu", compute_type=compute_type, cpu_threads=threads)

    def hear(pcm):
        segments, _ = model.transcribe(
            pcm, language="en", beam_size=1, temperature=0.0, condition_on_previous_text=False,
            compression_ratio_threshold=None, log_prob_threshold=None,
        )
        return "".join(segment.text for segment in segments)

    return hear


def whisper_cpp(weights, threads, attention):
    from pywhispercpp.model import Model

    model = Model(
        weights, context_params={"flash_attn": attention == "flash"}, redirect_whispercpp_logs_to=None, n_threads=threads, print_progress=False,
        print_realtime=False, language="en", no_context=True, temperature=0.0, temperature_inc=0.0, greedy={"best_of": 1},
    )

    def hear(pcm):
        return " ".join(segment.text for segment in model.transcribe(pcm))

    return hear


if __name__ == "__main__":
    make = {"faster-whisper": faster_whisper, "whisper.cpp": whisper_cpp}[sys.argv[1]]
    hear = make(sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
    print("ready", flush=True)
    for line in sys.stdin:
        text = hear(numpy.fromfile(line.strip(), numpy.float32))
        print(" ".join(text.split()), flush=True)
