"""The vectors that llama.cpp makes of sentences with an encoder of BERT's architecture, as JSON: a sparse sample of each.

    pip install xllamacpp==2026.10.11549 gguf==0.19.0 safetensors==0.8.0
    LOOM_WRITE_SMALL=FOLDER cargo test -p loom-ai a_small_encoder_is_written -- --ignored
    python sentence_encoder.py sentence_encoder.json FOLDER

The folder has model.safetensors, config.json and tokenizer.json; the weights go to llama.cpp as they are (F32), in a GGUF file.
"""

import json
import pathlib
import sys
import tempfile
import urllib.request

import gguf
import xllamacpp
from safetensors.numpy import load_file

NAMES = {
    "embeddings.word_embeddings": "token_embd", "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types", "embeddings.LayerNorm": "token_embd_norm",
}
PARTS = {
    "attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm",
}
SENTENCES = [
    "The captions disappear when a viewer seeks backwards.",
    "Subtitles are gone after jumping to an earlier place in the video.",
    "Revenue from the yearly plans grew by twelve percent!",
    "Größe, naïve café; 日本 and 2024's e-mail (a@b.c)",
    "word " * 50,
]


def name_of(theirs):
    name, end = theirs.rsplit(".", 1)
    if name in NAMES:
        return f"{NAMES[name]}.{end}"
    _, _, layer, part = name.split(".", 3)
    return f"blk.{layer}.{PARTS[part]}.{end}"


def convert(folder, to):
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    it = gguf.GGUFWriter(to, "bert")
    it.add_context_length(config["max_position_embeddings"])
    it.add_embedding_length(config["hidden_size"])
    it.add_feed_forward_length(config["intermediate_size"])
    it.add_block_count(config["num_hidden_layers"])
    it.add_head_count(config["num_attention_heads"])
    it.add_layer_norm_eps(config["layer_norm_eps"])
    it.add_causal_attention(False)
    it.add_pooling_type(gguf.PoolingType.MEAN)
    words = sorted(tokenizer["model"]["vocab"].items(), key=lambda it: it[1])
    marks = {it["content"] for it in tokenizer["added_tokens"]}
    # llama.cpp marks where a word begins, BERT where one goes on
    plain = [word if word in marks else word[2:] if word.startswith("##") else "\u2581" + word for word, _ in words]
    it.add_tokenizer_model("bert")
    it.add_tokenizer_pre("jina-v2-en")
    it.add_token_list(plain)
    it.add_token_types([3 if word in marks else 1 for word, _ in words])
    it.add_token_type_count(2)
    for mark, add in (("[UNK]", it.add_unk_token_id), ("[SEP]", it.add_sep_token_id), ("[PAD]", it.add_pad_token_id),
                      ("[CLS]", it.add_bos_token_id)):
        add(tokenizer["model"]["vocab"][mark])
    it.add_uint32("tokenizer.ggml.cls_token_id", tokenizer["model"]["vocab"]["[CLS]"])
    it.add_add_bos_token(True)
    it.add_add_sep_token(True)
    for name, tensor in tensors.items():
        if name != "embeddings.position_ids" and not name.startswith("pooler."):
            it.add_tensor(name_of(name), tensor)
    it.write_header_to_file()
    it.write_kv_data_to_file()
    it.write_tensors_to_file()
    it.close()


def vectors(path):
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.embedding = True
    params.n_ctx = params.n_batch = params.n_ubatch = 512
    params.n_parallel = 1
    params.warmup = False
    params.cpuparams.n_threads = 1
    params.port = 0
    server = xllamacpp.Server(params)
    body = json.dumps({"input": SENTENCES}).encode()
    request = urllib.request.Request(server.listening_address + "/v1/embeddings", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return [it["embedding"] for it in json.load(answer)["data"]]


if __name__ == "__main__":
    to, folder = map(pathlib.Path, sys.argv[1:])
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / "encoder.gguf"
        convert(folder, path)
        made = [[text, [round(value, 5) for value in vector[::7]]] for text, vector in zip(SENTENCES, vectors(path), strict=True)]
    to.write_text(json.dumps(made, ensure_ascii=False) + "\n")
