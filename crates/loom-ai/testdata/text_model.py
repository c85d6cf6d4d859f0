"""What llama.cpp makes of GGUF files, as JSON: the tokens of some texts, the likeliest next tokens, and what follows greedily.

    pip install xllamacpp==2026.10.11549
    LOOM_WRITE_SMALL=FOLDER cargo test -p loom-ai small_models_are_written -- --ignored
    python text_model.py text_model.json FOLDER/{smol,llama3,qwen2,qwen3}.gguf

`make text-model` runs it on a real model.
"""

import json
import pathlib
import sys
import urllib.request

import xllamacpp

TEXTS = [
    "the other thing and the end",
    "In 2024, 12,345 people's cars weren't there; they'll be back at 10:30.",
    "  two spaces,   three,\ttab\n\n\nnew lines \n and trailing  ",
    "Grüße aus Zürich – naïve café, 日本語のテキスト, русский, ٣٤٥, 🙂👩‍👩‍👧",
    "fn main() { println!(\"{}\", x_1 + y2 * 0xFF); } // ok?!...",
    "<|im_start|>user\nWhat's up?<|im_end|>\n",
    "IT'S SHE'LL we'Ve",
    "",
]
PROMPTS = ["the winter and the engine", "In 2024 she", "Grüße, ", "<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n"]


def ask(base, path, body):
    request = urllib.request.Request(base + path, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)


def of(path, many):
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 512
    params.n_parallel = 1
    params.warmup = False
    params.cpuparams.n_threads = 1
    params.use_jinja = True
    params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.no_extra_bufts = True
    params.port = 0
    server = xllamacpp.Server(params)
    base = server.listening_address

    def tokens(text, whole=False):
        asked = {"content": text, "add_special": whole, "parse_special": True}
        return ask(base, "/tokenize", asked)["tokens"]

    answers = []
    for prompt in PROMPTS:
        prompt = tokens(prompt)
        told = ask(base, "/completion", {
            "prompt": prompt, "n_predict": many, "temperature": 0, "repeat_penalty": 1, "n_probs": 8, "return_tokens": True,
            "cache_prompt": False, "ignore_eos": True, "samplers": ["temperature"],
        })
        # of an answer that begins in the middle of a letter the first token is not told of
        told_of = told.get("completion_probabilities", [{"id": None}])[0]
        first = told_of["top_logprobs"] if told_of["id"] == told["tokens"][0] else []
        likeliest = [[it["id"], round(it["logprob"], 5)] for it in first]
        answers.append({"prompt": prompt, "likeliest": likeliest, "follow": told["tokens"]})
    assert any(it["likeliest"] for it in answers), path
    messages = [{"role": "system", "content": "Say it."}, {"role": "user", "content": "Over there"}]
    return {
        "tokens": [[text, tokens(text)] for text in TEXTS],
        "answers": answers,
        "chat": tokens(ask(base, "/apply-template", {"messages": messages})["prompt"], True),
    }


if __name__ == "__main__":
    to, *files = map(pathlib.Path, sys.argv[1:])
    made = {path.stem: of(path, 24 if path.stat().st_size < 1 << 20 else 12) for path in files}
    to.write_text(json.dumps(made, ensure_ascii=False, separators=(",", ":")) + "\n")
