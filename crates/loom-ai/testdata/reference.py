"""What openai-whisper computes for the first 11 s of jfk.wav with tiny.en, padded to 30 s: a sparse sample of it as JSON.

    pip install openai-whisper safetensors torch
    python reference.py WHISPER_TINY_EN_FOLDER JFK_WAV OUTPUT.json

The weights are those of the folder (Hugging Face safetensors) under OpenAI's names, in F32.
"""

import json
import pathlib
import re
import sys
import wave

import numpy
import torch
import whisper
from safetensors.torch import load_file

NAMES = (
    (r"^model\.", ""), (r"\.layers\.", ".blocks."), (r"\.fc1\.", ".mlp.0."), (r"\.fc2\.", ".mlp.2."),
    (r"\.final_layer_norm\.", ".mlp_ln."), (r"\.encoder_attn_layer_norm\.", ".cross_attn_ln."),
    (r"\.self_attn_layer_norm\.", ".attn_ln."), (r"\.encoder_attn\.", ".cross_attn."), (r"\.self_attn\.", ".attn."),
    (r"\.q_proj\.", ".query."), (r"\.k_proj\.", ".key."), (r"\.v_proj\.", ".value."), (r"\.out_proj\.", ".out."),
    (r"^encoder\.layer_norm\.", "encoder.ln_post."), (r"^decoder\.layer_norm\.", "decoder.ln."),
    (r"^encoder\.embed_positions\.weight$", "encoder.positional_embedding"),
    (r"^decoder\.embed_positions\.weight$", "decoder.positional_embedding"),
    (r"^decoder\.embed_tokens\.", "decoder.token_embedding."),
)


def model(folder):
    config = json.loads((folder / "config.json").read_text())
    it = whisper.model.Whisper(whisper.model.ModelDimensions(
        n_mels=80, n_audio_ctx=1500, n_audio_state=config["d_model"], n_audio_head=config["encoder_attention_heads"],
        n_audio_layer=config["encoder_layers"], n_vocab=config["vocab_size"], n_text_ctx=448, n_text_state=config["d_model"],
        n_text_head=config["decoder_attention_heads"], n_text_layer=config["decoder_layers"],
    ))
    state = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        if name != "proj_out.weight":
            state[name] = tensor.float()
    it.load_state_dict(state, strict=True)
    return it.eval()


def main(folder, sound, output):
    with wave.open(str(sound)) as file:
        pcm = numpy.frombuffer(file.readframes(file.getnframes()), numpy.int16).astype(numpy.float32) / 32768
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(torch.from_numpy(pcm)))
    it = model(folder)
    tokens = [50257, 50363, 843, 523, 616, 5891, 3399, 1265]
    with torch.no_grad():
        encoded = it.encoder(mel[None])
        logits = it.decoder(torch.tensor([tokens]), encoded)[0]
    sample = lambda rows, columns: [[r, c] for r in rows for c in columns]
    found = {
        "tokens": tokens,
        "mel": [[f, m, round(float(mel[m, f]), 6)] for f, m in sample([0, 1, 50, 333, 777, 1099, 1100, 2999], [0, 7, 20, 41, 60, 79])],
        "encoder": [
            [p, d, round(float(encoded[0, p, d]), 5)]
            for p, d in sample([0, 1, 100, 299, 400, 549, 560, 1000, 1499], [0, 5, 77, 150, 222, 301, 383])
        ],
        "encoder_rms": round(float(encoded.pow(2).mean().sqrt()), 5),
        "logits": [
            {"top": [[int(i), round(float(row[i]), 4)] for i in row.topk(12).indices],
             "some": [[i, round(float(row[i]), 4)] for i in (0, 13, 257, 1000, 20000, 50256, 50257, 50363, 50413, 51863)]}
            for row in logits
        ],
    }
    print([row["top"][0] for row in found["logits"]])
    lines = ",\n".join(f'"{key}": {json.dumps(value)}' for key, value in found.items())
    output.write_text("{\n" + lines + "\n}\n")


main(*map(pathlib.Path, sys.argv[1:]))
