"""When each word of a sound ends, as faster-whisper's cross-attention says, as JSON: [[word, seconds], …].

    python word_times.py CT2_WEIGHTS SOUND.f32 OUTPUT.json

F32, a beam of 5: slow and as good as these weights get, for it is what delays are counted from.
"""

import json
import pathlib
import sys

import numpy
from faster_whisper import WhisperModel


def main(weights, sound, output):
    model = WhisperModel(weights, device="cpu", compute_type="float32", cpu_threads=2)
    segments, _ = model.transcribe(
        numpy.fromfile(sound, numpy.float32), language="en", beam_size=5, condition_on_previous_text=False, word_timestamps=True
    )
    words = [[word.word, round(float(word.end), 2)] for segment in segments for word in segment.words]
    pathlib.Path(output).write_text(json.dumps(words))


main(*sys.argv[1:])
