#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `diapason check` of the cuda backend's host code, every case, on the double of driver, cuBLASLt and NCCL: what a machine with a GPU is asked in
# test_gpu.sh. With --full: five minutes on an idle machine, three of them bits over threads and ops by plan.
. "$(dirname "$0")/../lib.sh" "$1"
twins=$build/tests/cuda
[ -e "$twins/libcuda.so.1" ] || skip "the double of CUDA is not built: tools/deps --test, then tools/build"
[[ $build != *sanitize* ]] || skip "the programs of tests/cuda run under the sanitizers; this takes five minutes without them"
[ "$full" != 0 ] || skip "with tools/test --full only"
export LD_LIBRARY_PATH=$twins DIAPASON_PLUGINS=$twins/plugins

run 0 "$dia" check "$twins/plugins/test_cuda.so" --json --certificate cuda.json
cp out cases.jsonl
holds cases.jsonl '.[-1].summary | .ok and .passed > 60 and .level_reached == 4 and .level_lacks == "backend.queued/profile"' -s
# What may be left out here, and nothing else.
jq -r 'select (.verdict? == "skipped") | .case' cases.jsonl | LC_ALL=C sort > skipped
printf '%s\n' backend.attention/shared_prefix backend.bits/roots backend.bits/rows_of_products backend.bits/rows_of_the_head \
    backend.bits/sequences_of_attention backend.products/packs_in_another_dtype backend.products/unpack_rows backend.quant/rows_alone \
    backend.queued/profile backend/every_device collective/a_rank_dies collective/ranks > expected
diff expected skipped >&2 || fail "other cases were skipped"
run 0 "$dia" check --verify cuda.json
ok "$(jq -r 'select (.summary) | .summary | "\(.passed) cases passed in \(.seconds | floor) s, rung \(.level_reached)"' cases.jsonl)"

# With products of the dialect's own, rows do not depend on their number, and the cases of that are no longer skipped.
DIAPASON_CUDA_GEMM=dialect run 0 "$dia" check "$twins/plugins/test_cuda.so" --json --filter 'backend.bits/*_of_*'
holds out '[.[] | select (.case? | strings | startswith ("backend.bits/")) | .verdict] | length == 3 and all (. == "passed")' -s
ok "the class BATCH with DIAPASON_CUDA_GEMM=dialect"
