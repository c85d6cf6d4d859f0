"""Turns Whisper weights from safetensors (Hugging Face names) into CTranslate2's folder, so that both run the same ones.

    python ct2.py MODEL_FOLDER OUTPUT_FOLDER

CTranslate2's own converter reads them through transformers and PyTorch; the layout it fills is plain numpy, so it is filled here.
"""

import json
import pathlib
import shutil
import sys

import numpy
from ctranslate2.specs import common_spec, whisper_spec
from ctranslate2.converters import utils
from safetensors.numpy import load_file


def convert(folder, output):
    config = json.loads((folder / "config.json").read_text())
    tensors = {
        name.removeprefix("model."): value.astype(numpy.float32)
        for name, value in load_file(folder / "model.safetensors").items()
    }
    layers, heads = config["encoder_layers"], config["encoder_attention_heads"]
    spec = whisper_spec.WhisperSpec(layers, heads, config["decoder_layers"], config["decoder_attention_heads"])

    def linear(to, name):
        to.weight = tensors[f"{name}.weight"]
        if f"{name}.bias" in tensors:
            to.bias = tensors[f"{name}.bias"]

    def norm(to, name):
        to.gamma, to.beta = tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    def attention(to, name, of_itself):
        parts = [common_spec.LinearSpec() for _ in range(3)]
        for part, letter in zip(parts, "qkv"):
            linear(part, f"{name}.{letter}_proj")
        if of_itself:
            utils.fuse_linear(to.linear[0], parts)
        else:
            utils.fuse_linear(to.linear[0], parts[:1])
            utils.fuse_linear(to.linear[1], parts[1:])
        linear(to.linear[-1], f"{name}.out_proj")

    def side(to, name):
        to.position_encodings.encodings = tensors[f"{name}.embed_positions.weight"]
        norm(to.layer_norm, f"{name}.layer_norm")
        for index, layer in enumerate(to.layer):
            at = f"{name}.layers.{index}"
            attention(layer.self_attention, f"{at}.self_attn", True)
            norm(layer.self_attention.layer_norm, f"{at}.self_attn_layer_norm")
            if name == "decoder":
                attention(layer.attention, f"{at}.encoder_attn", False)
                norm(layer.attention.layer_norm, f"{at}.encoder_attn_layer_norm")
            linear(layer.ffn.linear_0, f"{at}.fc1")
            linear(layer.ffn.linear_1, f"{at}.fc2")
            norm(layer.ffn.layer_norm, f"{at}.final_layer_norm")

    for name in ("conv1", "conv2"):
        linear(getattr(spec.encoder, name), f"encoder.{name}")
    side(spec.encoder, "encoder")
    side(spec.decoder, "decoder")
    spec.decoder.embeddings.weight = tensors["decoder.embed_tokens.weight"]
    spec.decoder.projection.weight = tensors["decoder.embed_tokens.weight"]

    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    ids = {token: at for token, at in tokenizer["model"]["vocab"].items()}
    ids |= {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    words = [token for token, _ in sorted(ids.items(), key=lambda item: item[1])]
    # The timestamps come last, where the tokenizer does not list them.
    words += [f"<|{0.02 * at:.2f}|>" for at in range(config["vocab_size"] - len(words))]
    spec.register_vocabulary(words)
    spec.config.suppress_ids = config.get("suppress_tokens") or []
    spec.config.suppress_ids_begin = config["begin_suppress_tokens"]
    # Those of tiny.en that follow the sound (openai/whisper, _ALIGNMENT_HEADS).
    spec.config.alignment_heads = [(1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)]
    first = ids["<|startoftranscript|>"] + 1
    spec.config.lang_ids = list(range(first, ids["<|translate|>"]))
    spec.validate()
    spec.optimize()
    output.mkdir(parents=True, exist_ok=True)
    spec.save(str(output))
    shutil.copy(folder / "tokenizer.json", output)


if __name__ == "__main__":
    convert(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
