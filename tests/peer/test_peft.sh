#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# PEFT loads the adapter folders we write, and we read the ones it writes, in every setting that is implemented.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${DIAPASON_PEER_PYTHON:-python3}
"$python" -c 'import peft, torch, transformers' 2>/dev/null || { echo "skipped: no peft in $python (set DIAPASON_PEER_PYTHON)"; exit 77; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
HF_HUB_OFFLINE=1 "$python" -W ignore::FutureWarning "$here/peft_check.py" "$1/tests/helper_peft" "$here/../data/parity/models" "$out"
