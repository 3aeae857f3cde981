# SPDX-License-Identifier: Apache-2.0
"""Ten steps of TRL from a PEFT adapter, and what they are compared with.

trajectory.py run GGUF IDS OUT      for each stage: OUT/STAGE-init (the adapter both start from), OUT/STAGE.jsonl (the rows as TRL tokenized
                                    them), OUT/STAGE-trl (its adapter after the last step), OUT/STAGE.json (its losses)
trajectory.py compare OUT           the same of `diapason train`, in OUT/STAGE-run, against them
trajectory.py scores OUT            PEFT loads OUT/reward-run as a sequence classifier and scores the rows: eval_rewards/* of that run

Settings are given outright wherever a default of TRL's would differ from the recipe's: cpo_alpha (1), max_length, the schedule, dropout, bf16,
gradient checkpointing, the order of the rows. IDS: a text as `diapason tokenize` writes it.
"""
import json
import os
import sys

import torch
from safetensors.torch import load_file

STEPS, PAIRS, TARGETS = 10, 2, ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
STAGES = ("sft", "dpo", "simpo", "reward")
COMMON = dict(max_steps=STEPS, per_device_train_batch_size=PAIRS, gradient_accumulation_steps=1, learning_rate=5e-4, lr_scheduler_type="cosine",
              warmup_steps=2, weight_decay=0.01, max_grad_norm=1.0, logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True,
              bf16=False, use_cpu=True, gradient_checkpointing=False, max_length=256, seed=1, train_sampling_strategy="sequential")


def pairs_of(ids):
    """A prompt, how the text goes on, and how it goes on elsewhere; a token is the word "tID"."""
    rows = []
    for i in range(STEPS * PAIRS):
        at, other = 37 * i, (37 * i + 517) % (len(ids) - 80)
        words = [f"t{k}" for k in ids[at : at + 37]], [f"t{k}" for k in ids[other : other + 14 + i % 7]]
        rows.append({"prompt": " ".join(words[0][:18]), "chosen": " " + " ".join(words[0][18:]), "rejected": " " + " ".join(words[1])})
    return rows


def tokenizer_of(ids):
    """Gemma's ids without Gemma's tokenizer, which transformers takes a minute to build from the file."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, **{f"t{k}": k for k in ids}}
    words = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>")


def base_of(gguf):
    from transformers import AutoModelForCausalLM

    folder, name = os.path.split(os.path.abspath(gguf))
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config._attn_implementation = "eager"
    model = type(read)(config)  # a quantized model, which this one no longer is, may not be trained
    model.load_state_dict(read.state_dict())
    return model


def classifier_of(base):
    from transformers import AutoModelForSequenceClassification

    config = base.config.__class__.from_dict({**base.config.to_dict(), "num_labels": 1, "pad_token_id": 0})
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").float()
    model.model.load_state_dict(base.model.state_dict())
    return model


def adapted(base, stage):
    """A fresh base with an adapter in which nothing is zero."""
    import copy

    from peft import LoraConfig, get_peft_model

    reward = stage == "reward"
    model = classifier_of(base) if reward else copy.deepcopy(base)
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=TARGETS, task_type="SEQ_CLS" if reward else "CAUSAL_LM",
                                             modules_to_save=["score"] if reward else None))
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad:
                scale = 0.02 if "lora_B" in name or "score" in name else p.shape[1] ** -0.5
                p.copy_(torch.randn(p.shape, generator=generator) * scale)
    return model


def trainer_of(stage, model, tokenizer, rows, out):
    from datasets import Dataset

    common = dict(COMMON, output_dir=os.path.join(out, "trl"))
    if stage == "sft":
        from trl import SFTConfig, SFTTrainer

        data = [{"prompt": r["prompt"], "completion": r["chosen"]} for r in rows]
        return SFTTrainer(model=model, args=SFTConfig(**common, completion_only_loss=True, packing=False), train_dataset=Dataset.from_list(data),
                          processing_class=tokenizer)
    if stage == "dpo":
        from trl import DPOConfig, DPOTrainer

        return DPOTrainer(model=model, args=DPOConfig(**common, beta=0.1, loss_type=["sigmoid"]), train_dataset=Dataset.from_list(rows),
                          processing_class=tokenizer)
    if stage == "simpo":
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        args = CPOConfig(**common, loss_type="simpo", cpo_alpha=0.0, beta=2.0, simpo_gamma=1.0)
        return CPOTrainer(model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    from trl import RewardConfig, RewardTrainer

    return RewardTrainer(model=model, args=RewardConfig(**common, center_rewards_coefficient=0.01), train_dataset=Dataset.from_list(rows),
                         processing_class=tokenizer)


def common_prefix(a, b):
    n = 0
    while n < min(len(a), len(b)) - 1 and a[n] == b[n]:
        n += 1
    return n


def native(stage, row):
    """A row of TRL's tokenized data set as a pre-tokenized row of ours."""
    if stage == "sft":
        return {"input_ids": row["input_ids"], "labels": row["labels"]}
    if stage == "dpo":
        return {f"{k}_input_ids": row[f"{k}_ids"] for k in ("prompt", "chosen", "rejected")}
    if stage == "simpo":
        n = sum(label == -100 for label in row["chosen_labels"])
        m = sum(label == -100 for label in row["rejected_labels"])
        assert row["chosen_input_ids"][:n] == row["rejected_input_ids"][:m]
        return {"prompt_input_ids": row["chosen_input_ids"][:n], "chosen_input_ids": row["chosen_input_ids"][n:], "rejected_input_ids": row["rejected_input_ids"][m:]}
    n = common_prefix(row["chosen_ids"], row["rejected_ids"])
    return {"prompt_input_ids": row["chosen_ids"][:n], "chosen_input_ids": row["chosen_ids"][n:], "rejected_input_ids": row["rejected_ids"][n:]}


def run(gguf, ids_file, out, *stages):
    with open(ids_file, encoding="utf-8") as f:
        ids = [k for k in json.loads(f.readline())["ids"] if k > 3]
    base, tokenizer, rows = base_of(gguf), tokenizer_of(ids), pairs_of(ids)
    base.save_pretrained(os.path.join(out, "base"))
    for stage in stages or STAGES:
        model = adapted(base, stage)
        model.save_pretrained(os.path.join(out, f"{stage}-init"))
        trainer = trainer_of(stage, model, tokenizer, rows, out)
        with open(os.path.join(out, f"{stage}.jsonl"), "w", encoding="utf-8") as f:
            for row in trainer.train_dataset:
                print(json.dumps(native(stage, row)), file=f)
        trainer.train()
        trainer.model.save_pretrained(os.path.join(out, f"{stage}-trl"), selected_adapters=["default"])
        losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
        assert len(losses) == STEPS, losses
        json.dump(losses, open(os.path.join(out, f"{stage}.json"), "w", encoding="utf-8"))


def cosine(a, b):
    return (a @ b / (a.norm() * b.norm())).item()


def compare_stage(out, stage):
    theirs = json.load(open(os.path.join(out, f"{stage}.json"), encoding="utf-8"))
    ours = [line["loss"] for line in map(json.loads, open(os.path.join(out, f"{stage}-run", "metrics.jsonl"), encoding="utf-8")) if "loss" in line]
    assert len(ours) == STEPS, ours
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs))
    init, trl, mine = (load_file(os.path.join(out, f"{stage}-{who}", "adapter_model.safetensors")) for who in ("init", "trl", "run"))
    assert set(init) == set(trl) == set(mine), (set(trl) ^ set(mine), set(init) ^ set(mine))
    flat = [torch.cat([t[k].double().flatten() for k in sorted(init)]) for t in (init, trl, mine)]
    whole, update = cosine(flat[1], flat[2]), cosine(flat[1] - flat[0], flat[2] - flat[0])
    print(f"{stage}: TRL's loss {theirs[0]:.4f} → {theirs[-1]:.4f}; largest difference {worst:.2%}; cosine {whole:.6f}, of what was learned {update:.6f}")
    # A loss that hardly moved, or adapters that still are what they were, would be followed by anything.
    assert max(theirs) > 1.1 * min(theirs), theirs
    assert worst <= 0.01, list(zip(ours, theirs))
    assert whole >= 0.999 and update >= 0.99, (whole, update)


def compare(out):
    for stage in STAGES:
        compare_stage(out, stage)


def scores(out):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(os.path.join(out, "base"), dtype=torch.float32)
    model = PeftModel.from_pretrained(classifier_of(base), os.path.join(out, "reward-run")).eval()
    lines = [json.loads(line) for line in open(os.path.join(out, "reward-run", "metrics.jsonl"), encoding="utf-8")]
    evaluated = [line for line in lines if "eval_rewards/chosen" in line][-1]
    rows = [json.loads(line) for line in open(os.path.join(out, "reward.jsonl"), encoding="utf-8")][:4]
    for side in ("chosen", "rejected"):
        with torch.no_grad():
            s = [model(input_ids=torch.tensor([r["prompt_input_ids"] + r[f"{side}_input_ids"]])).logits.item() for r in rows]
        mean, ours = sum(s) / len(s), evaluated[f"eval_rewards/{side}"]
        print(f"{side}: PEFT {mean:.6f}, ours {ours:.6f}")
        assert abs(mean - ours) <= 1e-4 * max(1, abs(mean)), (mean, ours)


if __name__ == "__main__":
    {"run": run, "compare": compare, "scores": scores}[sys.argv[1]](*sys.argv[2:])
