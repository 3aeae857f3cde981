#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What cpu computes, by `diapason check`, in every instruction set this machine has below its best, chosen by DIAPASON_CPU_ISA.
. "$(dirname "$0")/../lib.sh"

device() { "$dia" doctor --json | jq -r '.devices[] | select(.name == "cpu") | .detail'; }

best=$(device)
n=0
for isa in x86-64 avx2 avx512; do
    export DIAPASON_CPU_ISA=$isa
    found=$(device)
    [ "$found" != "$best" ] || continue
    case $found in *" $isa,"*) ;; *) continue ;; esac # this CPU has not got it, and the variable only lowers
    case $found in *bf16*) fail "$isa still has bf16 products: $found" ;; esac
    for suite in elementwise rows products attention quant; do
        run 0 "$dia" check cpu --quick --filter "backend.$suite/*"
    done
    ok "$isa: $found"
    n=$((n + 1))
done
[ "$n" -gt 0 ] || fail "no lower instruction set was tried on: $best"

# A name that is none is refused, with those there are; the rest loads.
export DIAPASON_CPU_ISA=sse9
run 0 "$dia" plugins list
grep -q "isa 'sse9' is unknown" out || fail "plugins list does not say why cpu is refused: $(cat out)"
ok "an unknown name is refused"
