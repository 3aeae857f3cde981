# SPDX-License-Identifier: Apache-2.0
"""PEFT saves adapters in many settings: we must read the same modules, ranks and scales; PEFT must load what we write, without a warning,
and compute the same logits. Arguments: helper_peft, folder of the tiny models, a scratch folder."""
import json
import os
import subprocess
import sys
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM

helper, models, scratch = sys.argv[1:]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SETTINGS = {
    "plain": dict(r=4, lora_alpha=8, target_modules=ALL),
    "rslora": dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], use_rslora=True),
    "dora": dict(r=2, lora_alpha=3, target_modules=ALL, use_dora=True),
    "regex": dict(r=3, lora_alpha=5, target_modules=r".*layers\.1\..*(q|up)_proj"),
    "all-linear": dict(r=2, lora_alpha=4, target_modules="all-linear"),
    "patterns": dict(r=4, lora_alpha=8, target_modules=ALL, rank_pattern={"q_proj": 2, r"layers\.0\.mlp.*": 6}, alpha_pattern={"layers.1.mlp.up_proj": 3}),
    "layers": dict(r=4, lora_alpha=8, target_modules=["q_proj"], layers_to_transform=[1], layers_pattern="layers"),
    "exclude": dict(r=4, lora_alpha=8, target_modules=ALL, exclude_modules=["layers.0.self_attn.q_proj"]),
    "path": dict(r=4, lora_alpha=8, target_modules=["self_attn.k_proj", "model.layers.0.mlp.up_proj"]),
    "saved": dict(r=4, lora_alpha=8, target_modules=["q_proj"], modules_to_save=["lm_head"]),
    "dropout": dict(r=4, lora_alpha=8, target_modules=["q_proj"], lora_dropout=0.25, init_lora_weights="gaussian"),
    "no-task": dict(r=4, lora_alpha=8, target_modules=["q_proj"], task_type=None),
}
ids = torch.arange(2, 22).unsqueeze(0)


def base(name):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_pretrained(os.path.join(models, name), dtype=torch.float32).eval()


def want_of(model):
    found = {}
    for path, layer in model.get_base_model().named_modules():
        if isinstance(layer, LoraLayer):
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            found[path] = [b.shape[0], a.shape[1], a.shape[0], layer.scaling["default"]]
    return found


n = 0
for name in ("gemma3", "llama"):
    for setting, kwargs in SETTINGS.items():
        if setting == "saved" and name == "gemma3":
            continue  # tied embeddings: PEFT saves the embedding's own copy, which it warns about itself
        model = get_peft_model(base(name), LoraConfig(**{"task_type": "CAUSAL_LM", **kwargs}))
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for key, p in model.named_parameters():
                if "lora_B" in key:
                    p.copy_(torch.randn(p.shape, generator=generator) * 0.1)
        theirs, ours = (os.path.join(scratch, f"{name}-{setting}-{who}") for who in ("peft", "diapason"))
        model.save_pretrained(theirs)
        got = json.loads(subprocess.run([helper, "read", theirs], check=True, capture_output=True, text=True).stdout)
        want = want_of(model)
        assert set(got["modules"]) == set(want), (name, setting, set(got["modules"]) ^ set(want))
        for path, values in want.items():
            assert got["modules"][path][:3] == values[:3] and abs(got["modules"][path][3] - values[3]) < 1e-12, (name, setting, path)
        assert got["saved"] == (["lm_head.weight"] if setting == "saved" else []), got["saved"]
        subprocess.run([helper, "copy", theirs, ours], check=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            again = PeftModel.from_pretrained(base(name), ours).eval()
        with torch.no_grad():
            difference = (again(ids).logits - model.eval()(ids).logits).abs().max().item()
        assert difference == 0, (name, setting, difference)
        n += 1
print(f"{n} adapters: PEFT's are read, and PEFT loads ours with equal logits and no warning")
