"""Word errors of tiny.en from weights of every kind, beside whisper.cpp from the same file and faster-whisper in F32.

`make bench-speech` builds what this runs.
"""

import subprocess

import rig
import speech
from words import plain

import jiwer


def blocks(kind):
    to = rig.CACHE / f"ggml-tiny.en-{kind}.bin"
    if not to.exists():
        source = rig.CACHE / "ggml-tiny.en.bin"
        subprocess.run(list(map(str, [speech.PEERS, speech.HERE / "blocks.py", source, kind, to])), check=True)
    return to


def errors(name, command, utterances, long):
    it = speech.Contender(name, *command)
    rates = []
    for paths, said in (utterances, long):
        _, heard = it.hear(paths)
        rates.append(jiwer.wer([plain(text) for text in said], [plain(text) for text in heard]))
    it.close()
    return [f"{100 * rate:.2f} %" for rate in rates]


def main():
    spoken = speech.spoken("librispeech-test-other", " ")
    path, placed = speech.joined(spoken + speech.spoken("ljspeech", "|"))
    utterances = [path for path, _ in spoken], [text for _, text in spoken]
    long = [path], [" ".join(text for _, _, text in placed)]
    for it in speech.contenders(1):  # which makes the peers' files where there are none
        it.close()
    peer = (speech.PEERS, speech.HERE / "peer.py")
    f16 = rig.CACHE / "ggml-tiny.en.bin"
    runs = [
        ("faster-whisper", "CTranslate2 F32", (*peer, "faster-whisper", rig.CACHE / "ct2-tiny.en", 2, "float32")),
        ("Loom", "safetensors F16", (speech.OURS, rig.MODEL, 2)),
    ]
    for kind, file in [("F16", f16), *((kind, blocks(kind)) for kind in ("Q8_0", "Q5_1", "Q4_0"))]:
        runs.append(("Loom", f"ggml {kind}", (speech.OURS, file, 2)))
        runs.append(("whisper.cpp", f"ggml {kind}", (*peer, "whisper.cpp", file, 2, "plain")))
    table = [[name, weights, *errors(name, command, utterances, long)] for name, weights, command in runs]
    rig.report("word_errors", "Word errors by weights (limit: 0.5 points from faster-whisper in F32)", rig.table(
        ["who", "weights", "50 utterances", "a long file"], *table
    ) + """

Whisper tiny.en, greedy, no warmer second try, no text carried over; the sounds are those of the table of processor seconds. The blocks are made by
PyPI's gguf from the F16 file, and whisper.cpp reads the same files.""", "make bench-speech")


if __name__ == "__main__":
    main()
