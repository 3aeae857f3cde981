#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Generated texts through our tokenizers and through SentencePiece and Hugging Face's tokenizers: seven small ones in the families' published
# configurations, the real ones that are in the cache, and every folder of DIAPASON_TOKENIZERS that holds a tokenizer.json.
. "$(dirname "$0")/../lib.sh" "$1"

here=$src/tests/peer
python=${DIAPASON_PEER_PYTHON:-python3}
"$python" -c 'import tokenizers, sentencepiece, gguf' 2>/dev/null || skip "no tokenizers, sentencepiece and gguf in $python (set DIAPASON_PEER_PYTHON)"
export TOKENIZERS_PARALLELISM=false
count=1000
[ "$full" = 0 ] || count=20000
"$python" "$here/tokenizers_check.py" "$build/tests/helper_token" $count "$work" "$src"
real=()
for name in gemma3-270m smollm2-135m; do
    path=$("$src/tools/fetch" --cached $name 2>/dev/null) && real+=("$path")
done
for folder in "${DIAPASON_TOKENIZERS:-/nonexistent}"/*/; do
    [ -f "$folder/tokenizer.json" ] && real+=("${folder%/}")
done
[ ${#real[@]} = 0 ] || "$python" "$here/tokenizers_check.py" "$build/tests/helper_token" $count "$work" "$src" "${real[@]}"
ok "$count texts a tokenizer"
