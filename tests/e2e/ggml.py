"""Turns Whisper weights from safetensors (Hugging Face names) into whisper.cpp's ggml file, so that both run the same ones.

    python ggml.py MODEL_FOLDER MEL_FILTERS.npz OUTPUT
"""

import json
import re
import struct
import sys

import numpy
from safetensors.numpy import load_file

MAGIC = 0x67676D6C

# (Hugging Face, OpenAI), applied in turn.
NAMES = (
    (r"^model\.", ""),
    (r"\.layers\.", ".blocks."),
    (r"\.fc1\.", ".mlp.0."),
    (r"\.fc2\.", ".mlp.2."),
    (r"\.final_layer_norm\.", ".mlp_ln."),
    (r"\.encoder_attn_layer_norm\.", ".cross_attn_ln."),
    (r"\.self_attn_layer_norm\.", ".attn_ln."),
    (r"\.encoder_attn\.", ".cross_attn."),
    (r"\.self_attn\.", ".attn."),
    (r"\.q_proj\.", ".query."),
    (r"\.k_proj\.", ".key."),
    (r"\.v_proj\.", ".value."),
    (r"\.out_proj\.", ".out."),
    (r"^encoder\.layer_norm\.", "encoder.ln_post."),
    (r"^decoder\.layer_norm\.", "decoder.ln."),
    (r"^encoder\.embed_positions\.weight$", "encoder.positional_embedding"),
    (r"^decoder\.embed_positions\.weight$", "decoder.positional_embedding"),
    (r"^decoder\.embed_tokens\.", "decoder.token_embedding."),
)
FULL_PRECISION = {
    "encoder.conv1.bias", "encoder.conv2.bias", "encoder.positional_embedding", "decoder.positional_embedding",
}


def byte_of():
    """GPT-2's printable stand-ins for bytes, reversed."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(others)}


def convert(folder, mel_path, output):
    config = json.loads((folder / "config.json").read_text())
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    mel = numpy.load(mel_path)[f"mel_{config['num_mel_bins']}"].astype(numpy.float32)
    header = (
        config["vocab_size"], config["max_source_positions"], config["d_model"], config["encoder_attention_heads"],
        config["encoder_layers"], config["max_target_positions"], config["d_model"], config["decoder_attention_heads"],
        config["decoder_layers"], config["num_mel_bins"], 1,
    )
    bytes_of = byte_of()
    with open(output, "wb") as file:
        file.write(struct.pack("<I11i", MAGIC, *header))
        file.write(struct.pack("<2i", *mel.shape))
        file.write(mel.tobytes())
        # Special tokens follow the text's; whisper.cpp makes those itself.
        texts = [token for token, _ in sorted(vocabulary.items(), key=lambda item: item[1]) if not re.fullmatch(r"<\|.*\|>", token)]
        file.write(struct.pack("<i", len(texts)))
        for token in texts:
            raw = bytes(bytes_of[c] for c in token)
            file.write(struct.pack("<i", len(raw)) + raw)
        for name, tensor in load_file(folder / "model.safetensors").items():
            if name == "proj_out.weight":
                continue
            for pattern, replacement in NAMES:
                name = re.sub(pattern, replacement, name)
            if re.match(r"encoder\.conv\d\.bias", name):
                tensor = tensor.reshape(-1, 1)
            full = tensor.ndim < 2 or name in FULL_PRECISION
            tensor = numpy.ascontiguousarray(tensor, numpy.float32 if full else numpy.float16)
            file.write(struct.pack("<3i", tensor.ndim, len(name.encode()), 0 if full else 1))
            file.write(struct.pack(f"<{tensor.ndim}i", *reversed(tensor.shape)))
            file.write(name.encode())
            file.write(tensor.tobytes())


if __name__ == "__main__":
    import pathlib

    convert(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
