#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# With NVIDIA's toolkit (tools/deps --cuda), no GPU needed: our declarations are those of its headers, its libraries have the functions we look for, and
# the plugin holds every kernel of the dialect for sm_80, for sm_90 and as PTX, as cuobjdump sees them. tools/test --full only.
. "$(dirname "$0")/../lib.sh" "$1"
[[ $build != *sanitize* ]] || skip "the kernels are in the ordinary build"
[ "$full" != 0 ] || skip "with tools/test --full only"
toolkit=$("$src/tools/fetch" --cached cuda 2>/dev/null) || skip "there is no toolkit: run tools/deps --cuda"
plugin=$build/lib/diapason/plugins/dps-backend-cuda.so
[ -e "$plugin" ] || fail "the toolkit is there, $plugin is not: run tools/build"

flags=(-std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror "-I$src" "-I$src/core" "-I$src/core/include")
run 0 gcc "${flags[@]}" -isystem "$toolkit/include" -c -o check.o "$src/tests/cuda/toolkit_check.c"
ok "api.h and the headers of CUDA, cuBLASLt and NCCL agree"
run 0 gcc "${flags[@]}" -o symbols "$src/tests/cuda/symbols_check.c" -ldl
run 0 ./symbols "$toolkit/lib/libcublasLt.so.13" "$toolkit/lib/libnccl.so.2"
ok "cuBLASLt and NCCL have every function that is looked for"

# What the sources define, macros expanded, is what the compiler must have made of them.
for kernel in "$src"/backends/dialect/*.cl; do
    cat "$src/backends/dialect/dialect.h" "$kernel" | gcc -E -P -w -x c -D__CUDACC__ -I"$src/backends/dialect" - | grep -o -E '__global__ void dps_[a-z0-9_]+' | sed 's/.* //'
done | LC_ALL=C sort -u > wanted
[ "$(wc -l < wanted)" -ge 20 ] || fail "the dialect defines only $(wc -l < wanted) kernels"
for arch in sm_80 sm_90; do
    "$toolkit/bin/cuobjdump" -symbols -arch "$arch" "$plugin" | sed -n 's/.*STO_ENTRY *\(dps_[a-z0-9_]*\).*/\1/p' | LC_ALL=C sort -u > "have-$arch"
    same wanted "have-$arch"
done
"$toolkit/bin/cuobjdump" -ptx "$plugin" | sed -n 's/.*\.entry \(dps_[a-z0-9_]*\).*/\1/p' | LC_ALL=C sort -u > have-ptx
same wanted have-ptx
ok "$(wc -l < wanted) kernels for sm_80, sm_90 and as PTX"
