#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The chat templates of real models, from a folder that is not ours to pass on: DIAPASON_TEMPLATES=FOLDER (any *.jinja below it, such as
# models/templates of llama.cpp), rendered by us and by Python's jinja2.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${DIAPASON_PEER_PYTHON:-python3}
"$python" -c 'import jinja2' 2>/dev/null || { echo "skipped: no jinja2 in $python (set DIAPASON_PEER_PYTHON)"; exit 77; }
[ -d "${DIAPASON_TEMPLATES:-}" ] || { echo "skipped: DIAPASON_TEMPLATES names no folder of templates"; exit 77; }
PYTHONDONTWRITEBYTECODE=1 "$python" "$here/templates_check.py" "$1/tests/helper_jinja" "$DIAPASON_TEMPLATES"
