# SPDX-License-Identifier: Apache-2.0
"""trl_preference.py: what preference_vs_trl asks of Python.

prepare GGUF PAIRS FOLDER      simpo.jsonl and grpo.jsonl of the sizes measured, cut from the texts of PAIRS
simpo|grpo GGUF FOLDER STEPS   TRL's steps on those rows with LoRA r = 16 on all seven linear maps; prints one JSON object
compare KIND JSON OURS THEIRS  seconds and memory of both, and their ratios
"""
import json
import random
import resource
import sys
import tempfile
import time

ROWS, WARM_UP = 32, 1
PROMPT, ANSWER = {"simpo": 160, "grpo": 240}, 80  # tokens, beside those of the turns
GEMMA = ("{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] + '<end_of_turn>\n' }}"
         "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}")


def prepare(gguf, pairs, folder):
    from torch_train import tokenizer_of
    tokenizer = tokenizer_of(gguf)
    texts = [row[side]["value"] for row in json.load(open(pairs, encoding="utf-8")) for side in ("chosen", "rejected")]
    ids = tokenizer(" ".join(texts), add_special_tokens=False).input_ids
    pick = random.Random(1)

    def message(role, n):
        first = pick.randrange(len(ids) - n)
        return [{"role": role, "content": tokenizer.decode(ids[first:first + n]).strip()}]

    for kind, length in PROMPT.items():
        with open(f"{folder}/{kind}.jsonl", "w", encoding="utf-8") as f:
            for _ in range(ROWS):
                row = {"prompt": message("user", length)}
                if kind == "simpo":
                    row.update(chosen=message("assistant", ANSWER), rejected=message("assistant", ANSWER))
                f.write(json.dumps(row) + "\n")


def measure(kind, gguf, folder, steps):
    import torch
    from datasets import load_dataset
    from peft import LoraConfig
    from torch_train import TARGETS, expanded, fast_dtype, tokenizer_of
    from transformers import TrainerCallback

    times = []

    class Timer(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            self.begin = time.time()

        def on_step_end(self, *args, **kwargs):
            times.append(time.time() - self.begin)

    tokenizer = tokenizer_of(gguf)
    tokenizer.chat_template = tokenizer.chat_template or GEMMA
    rows = load_dataset("json", data_files=f"{folder}/{kind}.jsonl", split="train")
    shared = {"model": expanded(gguf), "processing_class": tokenizer, "callbacks": [Timer()],
              "peft_config": LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS)}
    settings = {"output_dir": tempfile.mkdtemp(), "max_steps": WARM_UP + int(steps), "learning_rate": 1e-5, "bf16": False, "use_cpu": True, "logging_steps": 1,
                "report_to": [], "gradient_checkpointing": False, "save_strategy": "no"}
    if kind == "simpo":
        from trl.experimental.cpo import CPOConfig, CPOTrainer
        trainer = CPOTrainer(args=CPOConfig(per_device_train_batch_size=4, max_length=512, loss_type="simpo", cpo_alpha=0.0, **settings), train_dataset=rows, **shared)
    else:
        from trl import GRPOConfig, GRPOTrainer
        args = GRPOConfig(per_device_train_batch_size=8, num_generations=8, max_completion_length=64, **settings)
        trainer = GRPOTrainer(args=args, train_dataset=rows, reward_funcs=lambda completions, **rest: [float(len(c[0]["content"]) % 17) for c in completions], **shared)
    trainer.train()
    print(json.dumps({"step_seconds": sum(times[WARM_UP:]) / len(times[WARM_UP:]), "steps": times[WARM_UP:], "dtype": str(fast_dtype()).split(".")[1], "torch": torch.__version__,
                      "threads": torch.get_num_threads(), "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def compare(kind, as_json, ours, theirs):
    ours, theirs = json.loads(ours), json.loads(theirs)
    time_share, memory_share = (ours[key] / theirs[key] for key in ("step_seconds", "peak_rss_bytes"))
    if as_json == "1":
        print(json.dumps({"objective": kind, "diapason": ours, "trl": theirs, "time_share": time_share, "memory_share": memory_share}))
        return
    for name, run in (("Diapason", ours), ("TRL", theirs)):
        print(f"{kind:6} {name:10} {run['step_seconds']:7.1f} s a step  {run['peak_rss_bytes'] / 1e9:6.2f} GB  ({run['dtype']})")
    print(f"{kind:6} {'share':10} {time_share:7.2f}          {memory_share:6.2f}")


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    {"prepare": prepare, "compare": compare}.get(verb, lambda *more: measure(verb, *more))(*rest)
