#!/usr/bin/env python3
"""Writes what Hugging Face's own library says about the parts of small tokenizers.

Needs the `tokenizers` package. normalizers.json and pre_tokenizers.json hold one component with
its results on every text; tokenizers.json holds whole small tokenizers, trained on the texts.
"""
import itertools
import json
import pathlib

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent

TEXTS = [
    "", " ", "Hello world", "  Hello   World!  ", "I'll say don't, WE'VE said we're", "a.b a+b a",
    "12345 and 1,234.5 in 2026; x2 y10", "tabs\tand\nlines\r\n\r\n  end\n", "no\u00a0break\u2003em\u3000wide",
    "naïve café — “Füße” İstanbul ½ ² ٣", "e\u0301 A\u030a ﬁ Ⅳ ① ㎏", "Привет, мир! Γειά σου Κόσμε",
    "שלום עולם مرحبا بالعالم", "नमस्ते दुनिया สวัสดีชาวโลก", "你好，世界。こんにちは 안녕하세요",
    "🙂👩‍👩‍👧‍👦🏳️‍🌈 <|end|> <tool>x</tool>", "▁under▁scored__ words_", "\u180e\u200b\u0085\u2028x",
]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+")
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def byte_level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def metaspace(scheme="always", cut=True):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}


PRE_TOKENIZERS = (
    [byte_level(p, r) for p, r in itertools.product((False, True), repeat=2)]
    + [split(r"\s+", b, i) for b in BEHAVIORS for i in (False, True)]
    + [split("a", b, False, "String") for b in BEHAVIORS] + [split("a.b", kind="String")]
    + [{"type": "Digits", "individual_digits": d} for d in (False, True)]
    + [{"type": "Punctuation", "behavior": b} for b in BEHAVIORS]
    + [metaspace(s, c) for s in ("always", "first", "never") for c in (False, True)]
    + [{"type": "Whitespace"}, {"type": "WhitespaceSplit"}]
    + [split(p) for p in (LLAMA3, QWEN2, O200K, r"\p{N}{1,3}+", r"[一-龥ぁ-ゟ]+", r"\p{Han}+",
                          r"\w+|\W", r"\bb|\bW", r"\h+|\H", r"^.*$", r"a{,2}|l{2}", r"[\w\-.]+|\p{^L}",
                          r"\d++", r"(?<=\d)(?=\d)", r"\x41|\x{1F642}|\v")]
    + [{"type": "Sequence", "pretokenizers": parts} for parts in (
        [split(LLAMA3), byte_level(False, False)],
        [{"type": "Punctuation"}, {"type": "Digits", "individual_digits": False}, byte_level()],
        [split("H", "Removed", False, "String"), metaspace("first")])]
)

NORMALIZERS = (
    [{"type": t} for t in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "ByteLevel")]
    + [{"type": "Strip", "strip_left": a, "strip_right": b} for a in (False, True) for b in (False, True)]
    + [{"type": "Prepend", "prepend": "▁"},
       {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
       {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
       {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"},
                                            {"type": "Lowercase"}]}]
)


def empty(**parts):
    base = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
            "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None,
            "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}
    return Tokenizer.from_str(json.dumps({**base, **parts}))


def added(content, number, **flags):
    token = {"id": number, "content": content, "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": True}
    return {**token, **flags}


def byte_level_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=330, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    parts = json.loads(tokenizer.to_str())
    n = len(parts["model"]["vocab"])
    word = next(w for w in ("end", "lines", "World") if w not in parts["model"]["vocab"])
    parts["added_tokens"] = [
        added("<|end|>", n), added("<tool>", n + 1, special=False, lstrip=True),
        added("</tool>", n + 2, special=False, rstrip=True),
        added(word, n + 3, special=False, single_word=True, normalized=True)]
    parts["post_processor"] = {
        "type": "Sequence", "processors": [
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
            {"type": "TemplateProcessing",
             "single": [{"SpecialToken": {"id": "<|end|>", "type_id": 0}},
                        {"Sequence": {"id": "A", "type_id": 0}},
                        {"SpecialToken": {"id": "<|end|>", "type_id": 0}}],
             "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
             "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [n], "tokens": ["<|end|>"]}}}]}
    return parts


def pieces_tokenizer(byte_fallback, pre_tokenizer):
    """As SentencePiece's BPE looks in tokenizer.json."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=140, show_progress=False, special_tokens=["<unk>"],
                                  limit_alphabet=50)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    parts = json.loads(tokenizer.to_str())
    model = parts["model"]
    if byte_fallback:
        model["byte_fallback"] = True
        for byte in range(256):
            model["vocab"][f"<0x{byte:02X}>"] = len(model["vocab"])
    model["merges"] = [" ".join(pair) for pair in model["merges"]]
    parts["pre_tokenizer"] = pre_tokenizer
    if pre_tokenizer is None:
        parts["normalizer"] = {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    parts["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    n = len(model["vocab"])
    parts["added_tokens"] = [added("<unk>", 0), added("<|end|>", n),
                             added("<tool>", model["vocab"].get("<tool>", n + 1), special=False)]
    return parts


def encodings(parts):
    tokenizer = Tokenizer.from_str(json.dumps(parts))
    cases = []
    for text in TEXTS:
        for special in (False, True):
            tokenizer.encode_special_tokens = not special
            ids = tokenizer.encode(text, add_special_tokens=special).ids
            cases.append({"text": text, "special": special, "ids": ids})
    return {"tokenizer": parts, "cases": cases}


def write(name, value):
    (HERE / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def main():
    write("pre_tokenizers.json", {"texts": TEXTS, "components": [
        {"component": c, "words": [[w for w, _ in empty(pre_tokenizer=c).pre_tokenizer.pre_tokenize_str(t)]
                                   for t in TEXTS]} for c in PRE_TOKENIZERS]})
    write("normalizers.json", {"texts": TEXTS, "components": [
        {"component": c, "results": [empty(normalizer=c).normalizer.normalize_str(t) for t in TEXTS]}
        for c in NORMALIZERS]})
    write("tokenizers.json", [encodings(parts) for parts in (
        byte_level_tokenizer(), pieces_tokenizer(True, None), pieces_tokenizer(False, None),
        pieces_tokenizer(True, metaspace("first", False)))])


if __name__ == "__main__":
    main()
