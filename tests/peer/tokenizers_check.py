# SPDX-License-Identifier: Apache-2.0
"""Our tokenizers against SentencePiece and Hugging Face's `tokenizers`, built from the same vocabularies, on generated texts: ids with and
without what the tokenizer adds, ids of look-alikes read as plain text, decoded text of real and of random ids; and that ours do at least 1 MB/s of processor time both ways.
usage: tokenizers_check.py HELPER COUNT WORK CORPUS_FOLDER [NAME=GGUF | FOLDER_WITH_TOKENIZER_JSON …]   (no argument after CORPUS: trained ones)"""
import glob, json, os, random, re, subprocess, sys
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

# First to last code point of what is mixed: scripts with cases, marks, ligatures, joiners, directions, numbers, private use, astral planes.
RANGES = [(0x20, 0x7e), (0x0, 0x1f), (0x7f, 0xff), (0x100, 0x24f), (0x250, 0x2ff), (0x300, 0x36f), (0x370, 0x3ff), (0x400, 0x4ff), (0x530, 0x5ff),
          (0x600, 0x6ff), (0x700, 0x97f), (0xb80, 0xbff), (0xe00, 0xe7f), (0xf00, 0xfff), (0x1100, 0x11ff), (0x1680, 0x16ff), (0x1e00, 0x1fff), (0x2000, 0x206f),
          (0x2070, 0x218f), (0x2190, 0x2bff), (0x3000, 0x30ff), (0x3130, 0x318f), (0x4e00, 0x9fff), (0xac00, 0xd7a3), (0xe000, 0xe0ff), (0xf900, 0xfaff), (0xfb00, 0xfdff),
          (0xfe00, 0xfe0f), (0xfe30, 0xfeff), (0xff00, 0xffef), (0xfff0, 0xfffd), (0x10300, 0x1034f), (0x104a0, 0x104a9), (0x1d400, 0x1d7ff), (0x1f100, 0x1f9ff), (0x20000, 0x2a6df),
          (0xe0100, 0xe01ef), (0x10ffff, 0x10ffff)]
SPACES = [" ", "  ", "   ", "\n", "\r\n", "\n\n", "\t", "\t\t", "\u00a0", "\u2003", "\u3000", "\u0085", "\u2028", "\u1680", "\r", "\x0b", "\x0c", "\u200b", "\u2581"]
EMOJI = ["👩‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷", "👍🏽", "❤️", "🧑🏿‍🚀", "☺︎", "🙂", "1️⃣", "\U0001f468\u200d"]
WORDS = ["l'été", "aujourd'hui", "they're", "I'LL", "don't", "DON'T", "we've", "ſ'ſ", "it'ſ", "Straße", "naïve", "e\u0301te\u0301", "ﬁn", "İstanbul", "ǅ", "ﷺ", "½", "①②", "١٢٣", "४५", "3.14159", "1,000,000", "0x1F", "1e-9",
         "https://exemple.fr/à?b=c&d=%20", "a_b_c", "CamelCaseWord", "foo(bar[baz]);", "<div class=\"x\">", "</table>", "<h1>", "<br/>", "&nbsp;", "{\"k\": [1, null]}", "```c\nint x;\n```", "== !=", "->", "...", "…", "—", "«\u00a0oui\u00a0»",
         "मनीष", "ไทย", "日本語テキスト", "한국어", "العربية", "עִבְרִית", "Ελληνικά", "Русский", "<0x0A>", "<0xZZ>", "<0x41>", "Ġword", "▁▁a", "Ċ", "#include", "\\n", "\x00", "a\x00b", "자\u11a7", "mot clé\u200d", "Ⓐmot clé", "e\u0898\u0301"]


def corpus(folder):
    out = []
    for path in sorted(glob.glob(folder + "/**/*", recursive=True)):
        if os.path.isfile(path) and os.path.getsize(path) < 1 << 20 and path.endswith((".md", ".c", ".h", ".txt", ".page", ".py", ".json", ".html", ".sh", ".yaml", ".jsonl")):
            out.append(open(path, encoding="utf-8", errors="ignore").read())
    return "\n".join(out)


def piece(r, text, special):
    kind = r.random()
    if kind < 0.25:
        at = r.randrange(len(text))
        return text[at:at + r.randint(1, 120)]
    if kind < 0.40:
        return r.choice(WORDS)
    if kind < 0.55:
        return r.choice(SPACES) * r.choice([1, 1, 1, 2, 3, 5, 17, 31, 32, 33, 40, 70])
    if kind < 0.62:
        return r.choice(EMOJI)
    if kind < 0.80:
        low, high = r.choice(RANGES)
        return "".join(chr(r.randint(low, high)) for _ in range(r.randint(1, 8)))
    if kind < 0.85:
        return str(r.randint(0, 10 ** r.randint(1, 25)))
    if kind < 0.90:
        return r.choice(["a", "ab", "é", "\u0301", "1", "'", ".", "=", "-", "\n ", "aA", "日", "🙂", "\t "]) * r.randint(2, 60)
    if kind < 0.97 and special:
        s = r.choice(special)
        return s if r.random() < 0.7 else s[:r.randint(1, len(s))]
    return chr(r.choice([r.randrange(0xd800), r.randint(0xe000, 0x10ffff)]))


def generate(r, text, special, count):
    special = sorted(special, key=lambda s: (len(s), s))[:50] + sorted(special)[-20:]
    out = ["", " ", "\x00", "\n", "a", " a", "a ", "  a  ", "x" * 3000, " " * 3000, "é" * 700, "12" * 300, "a b" * 400]
    while len(out) < count:
        out.append("".join(piece(r, text, special) for _ in range(r.choice([1, 1, 2, 3, 4, 6, 10]))))
    return out


class Hugging:
    """A tokenizers.Tokenizer as the reference."""

    def __init__(self, tok):
        self.tok = tok
        self.added = {i: t for i, t in tok.get_added_tokens_decoder().items()}
        self.special = [t.content for t in self.added.values()]
        self.n = tok.get_vocab_size()

    def encode(self, texts, special, literal):
        self.tok.encode_special_tokens = literal
        return [e.ids for e in self.tok.encode_batch(texts, add_special_tokens=special)]

    def decode(self, rows, keep):
        return self.tok.decode_batch(rows, skip_special_tokens=not keep)


class Sentence:
    """A SentencePiece model as the reference; control tokens are cut out before it, as every chat template needs."""

    def __init__(self, pieces, bos):
        import sentencepiece
        from sentencepiece import sentencepiece_model_pb2
        proto = sentencepiece_model_pb2.ModelProto()
        proto.trainer_spec.model_type = 2
        proto.trainer_spec.vocab_size = len(pieces)
        proto.trainer_spec.byte_fallback = True
        proto.normalizer_spec.name = "identity"
        proto.normalizer_spec.add_dummy_prefix = proto.normalizer_spec.remove_extra_whitespaces = False
        proto.normalizer_spec.escape_whitespaces = True
        for i, (text, score, kind) in enumerate(pieces):
            entry = proto.pieces.add()
            entry.piece, entry.score, entry.type = text.replace(" ", "▁") if kind == 4 else text, score, 2 if text == "<unk>" else kind
            if entry.type == 2:
                proto.trainer_spec.unk_id = i
        self.sp = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
        self.control = {text: i for i, (text, _, kind) in enumerate(pieces) if kind in (2, 3)}
        self.special = list(self.control) + [text for text, _, kind in pieces if kind == 4]
        self.cut = re.compile("(" + "|".join(re.escape(t) for t in sorted(self.control, key=len, reverse=True)) + ")")
        self.bos, self.n, self.ids = bos, len(pieces), set(self.control.values())

    def encode(self, texts, special, literal):
        out = []
        for text in texts:
            ids = [self.bos] if special else []
            for i, part in enumerate([text] if literal else self.cut.split(text)):
                ids += [self.control[part]] if i % 2 else self.sp.encode(part) if part else []
            out.append(ids)
        return out

    def decode(self, rows, keep):
        """SentencePiece drops control tokens; kept ones are put between what it decodes. Only whole characters are compared (see main)."""
        out = []
        for ids in rows:
            text, run = "", []
            for i in ids + [None]:
                if i is None or i in self.ids:
                    text += self.sp.decode(run)
                    run = []
                    if i is not None and keep:
                        text += self.sp.id_to_piece(i)
                else:
                    run.append(i)
            out.append(text)
        return out


def gguf(path):
    from gguf import GGUFReader
    fields = GGUFReader(path).fields
    get = lambda key: fields["tokenizer.ggml." + key].contents()
    tokens, kinds = get("tokens"), get("token_type")
    if get("model") == "llama":
        return Sentence(list(zip(tokens, get("scores"), kinds)), get("bos_token_id"))
    assert get("pre") == "smollm"
    tok = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in get("merges")]))
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([t for t, k in zip(tokens, kinds) if k == 3])
    return Hugging(tok)


CASED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def trained(name, lines, folder):
    """A small tokenizer in the published configuration of a family, trained on the corpus."""
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True) if name in ("llama2", "mistral", "gemma") else models.BPE(ignore_merges=name == "llama3"))
    special, first = ["<unk>", "<s>", "</s>"], []
    if name in ("llama2", "mistral", "gemma"):
        first = ["<0x%02X>" % b for b in range(256)]
        if name == "llama2":
            tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        elif name == "mistral":
            tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
        else:
            tok.normalizer = normalizers.Replace(" ", "▁")
            tok.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        tok.decoder = decoders.Sequence(steps if name == "gemma" else steps + [decoders.Strip(" ", 1, 0)])
    else:
        tok.decoder = decoders.ByteLevel()
        split = {"llama3": CASED % r"\p{N}{1,3}", "qwen2": CASED % r"\p{N}", "qwen3": CASED % r"\p{N}"}.get(name)
        if split:
            tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        else:
            tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        if name.startswith("qwen"):
            tok.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(vocab_size=3000, special_tokens=special + first, initial_alphabet=[] if first else pre_tokenizers.ByteLevel.alphabet(), show_progress=False, max_token_length=24)
    tok.train_from_iterator(lines, trainer)
    # The bytes were given to the trainer as special tokens to fix their ids; they are ordinary entries of the vocabulary.
    state = json.loads(tok.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in special]
    tok = Tokenizer.from_str(json.dumps(state))
    tok.add_special_tokens([AddedToken("<|im_start|>", normalized=False), AddedToken("<|im_end|>", normalized=False, lstrip=name == "qwen3", rstrip=name == "qwen3")])
    tok.add_tokens([AddedToken("<think>", normalized=False), AddedToken("\n\n\n", normalized=False), AddedToken("mot clé", normalized=name == "qwen2", single_word=True)])
    bos = tok.token_to_id("<s>")
    tok.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", bos)])
    path = os.path.join(folder, name)
    os.makedirs(path, exist_ok=True)
    tok.save(os.path.join(path, "tokenizer.json"))
    return path


def ask(helper, model, rows):
    done = subprocess.run([helper, model], input="\n".join(map(json.dumps, rows)) + "\n", capture_output=True, text=True, encoding="utf-8", errors="surrogatepass")
    if done.returncode:
        sys.exit("%s: the helper failed: %s" % (model, done.stderr[-2000:]))
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def check(helper, name, model, reference, texts, r):
    rows, want, what = [], [], []
    for special, literal in ((1, 0), (0, 0), (0, 1)):
        rows += [{"text": t, "special": special, "literal": literal} for t in texts]
        want += [{"ids": ids} for ids in reference.encode(texts, bool(special), bool(literal))]
        what += [("special" if special else "literal" if literal else "plain", t) for t in texts]
    half = [w["ids"] for w in want[:len(texts)]][:max(500, len(texts) // 3)]
    plenty = half + [[r.randrange(reference.n) for _ in range(r.randint(1, 20))] for _ in range(len(half) // 4)]
    for keep in (0, 1):
        rows += [{"ids": ids, "keep": keep} for ids in plenty]
        want += [{"text": t} for t in reference.decode(plenty, bool(keep))]
        what += [("decode keeping %d" % keep, ids) for ids in plenty]
    bad = 0
    for row, expected, got in zip(what, want, ask(helper, model, rows)):
        if got != expected:
            bad += 1
            if bad <= 5:
                print("%s, %s\n  of       %r\n  expected %r\n  got      %r" % (name, row[0], row[1], expected, got))
    print("%s: %d texts, %d comparisons, %d differ" % (name, len(texts), len(rows), bad), flush=True)
    return bad


def too_slow(helper, name, model, path):
    """The fastest of the helper's passes counts: what is promised is of a core, and this one may be shared."""
    done = subprocess.run([helper, model, "--speed", path], capture_output=True, text=True)
    rates = [(way, float(rate)) for way, rate in re.findall(r"(encode|decode) ([0-9.]+) MB/s", done.stdout)]
    if done.returncode or not rates:
        sys.exit("%s: the helper failed: %s" % (name, done.stderr[-2000:]))
    best = dict(sorted(rates, key=lambda r: r[1]))
    print("%s: encodes %.1f MB/s, decodes %.1f" % (name, best["encode"], best["decode"]), flush=True)
    return min(best.values()) < 1


def main():
    helper, count, work, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    text = corpus(folder)
    lines = [text[i:i + 2000] for i in range(0, min(len(text), 3000000), 2000)]
    models_given = sys.argv[5:] or [trained(n, lines, work) for n in ("gpt2", "llama3", "qwen2", "qwen3", "llama2", "mistral", "gemma")]
    bad, sample = 0, os.path.join(work, "sample.txt")
    with open(sample, "w", encoding="utf-8") as f:
        f.write(text[:2000000])
    for model in models_given:
        r = random.Random(model.split("/")[-1] + os.environ.get("SEED", ""))
        if model.endswith(".gguf"):
            reference = gguf(model)
        else:
            reference = Hugging(Tokenizer.from_file(os.path.join(model, "tokenizer.json")))
        bad += check(helper, os.path.basename(model), model, reference, generate(r, text, reference.special, count), r)
        bad += too_slow(helper, os.path.basename(model), model, sample)
    sys.exit(bool(bad))


main()
