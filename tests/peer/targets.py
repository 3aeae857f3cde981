# SPDX-License-Identifier: Apache-2.0
"""Ask PEFT which modules a grid of settings adapts: the content of tests/data/graph/targets.json."""
import json
from types import SimpleNamespace

from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

PATHS = [
    f"model.layers.{i}.{m}"
    for i in (0, 1, 2, 10, 11)
    for m in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
] + ["lm_head", "score", "model.embed_tokens", "model.language_model.layers.3.experts.0.q_proj", "layers.1.q_proj", "q_proj", "xq_proj", "model.xq_proj"]
SPECS = [
    {"target_modules": ["q_proj"]},
    {"target_modules": ["q_proj", "v_proj"]},
    {"target_modules": ["self_attn.q_proj", "mlp.down_proj"]},
    {"target_modules": ["model.layers.1.self_attn.q_proj"]},
    {"target_modules": ["lm_head", "embed_tokens"]},
    {"target_modules": ["proj"]},
    {"target_modules": [".q_proj"]},
    {"target_modules": ".*_proj"},
    {"target_modules": r".*\.(q|v)_proj"},
    {"target_modules": "q_proj"},
    {"target_modules": "q_proj|.*k_proj"},
    {"target_modules": r"model\.layers\.1\d\..*"},
    {"target_modules": r"model\.layers\.(?!0\.).*_proj"},
    {"target_modules": ["q_proj"], "layers_to_transform": [0, 10]},
    {"target_modules": ["q_proj"], "layers_to_transform": [1]},
    {"target_modules": ["q_proj"], "layers_to_transform": [3], "layers_pattern": ["layers"]},
    {"target_modules": ["q_proj"], "layers_to_transform": [0, 1, 3], "layers_pattern": ["layers"]},
    {"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": ["experts"]},
    {"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": ["blocks", "layers"]},
    {"target_modules": ["q_proj", "k_proj"], "exclude_modules": ["layers.1.self_attn.q_proj"]},
    {"target_modules": ["q_proj", "k_proj"], "exclude_modules": ["k_proj"]},
    {"target_modules": ".*_proj", "exclude_modules": r".*\.1\..*"},
    {"target_modules": ".*", "modules_to_save": ["lm_head"]},
    {"target_modules": ".*", "modules_to_save": ["self_attn", "embed_tokens"]},
]
PATTERNS = [
    {"q_proj": 8, "layers.1.mlp": 4, "mlp.up_proj": 2},
    {r"layers\.1\d\..*": 16, "down_proj": 3},
    {"^model.layers.0.self_attn.q_proj": 5, "model.layers.0.self_attn.k_proj": 6},
    {"self_attn.q_proj|mlp.up_proj": 7},
]


def matched(spec):
    keys = ("target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern", "target_parameters")
    config = SimpleNamespace(**{key: spec.get(key) for key in keys})
    return [path for path in PATHS if bool(check_target_module_exists(config, path))]


out = {
    "paths": PATHS,
    "specs": [{"spec": spec, "matched": matched(spec)} for spec in SPECS],
    "patterns": [{"pattern": p, "values": [p.get(get_pattern_key(list(p), path), 1) for path in PATHS]} for p in PATTERNS],
}
print(json.dumps(out, indent=1))
