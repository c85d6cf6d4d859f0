"""Word errors, and whisper.cpp's reading of the same sound with the same weights."""

import re

import jiwer
import numpy

import ggml
import material
from server import MODEL, SHARED


def plain(text):
    """Words alone: lower-case, without punctuation and without what a recogniser says of noises."""
    text = text.lower().replace("’", "'").replace("-", " ").replace("&", " and ")
    text = re.sub(r"\[[^\]]*\]|\([^)]*\)", " ", text)
    text = re.sub(r"[^a-z0-9' ]+", " ", text)
    return " ".join(word.strip("'") for word in text.split())


def error_rate(said, read):
    return jiwer.wer(plain(said), plain(read))


def by_whisper_cpp(samples_16k):
    """What whisper.cpp reads with the weights that the server runs."""
    from pywhispercpp.model import Model

    weights = material.made("ggml-tiny.en.bin", lambda path: ggml.convert(MODEL, SHARED / "models" / "mel_filters.npz", path))
    model = Model(str(weights), n_threads=2, print_progress=False, print_realtime=False, redirect_whispercpp_logs_to=None)
    segments = model.transcribe(samples_16k.astype(numpy.float32) / 32_768)
    return " ".join(segment.text for segment in segments)
