# SPDX-License-Identifier: Apache-2.0
# cuda.sh: one toolkit folder from NVIDIA's wheels: compiler, headers, cuobjdump, and the libraries backends/cuda opens at run time. tools/deps --cuda
# calls it. NVIDIA's own terms apply to what it fetches (NVIDIA CUDA toolkit EULA; NCCL: Apache-2.0), nothing of it belongs in the tree.
describe() { printf '%s\t%s\n' cuda "CUDA 13.0 compiler, headers, cuBLASLt and NCCL (NVIDIA's EULA), a folder: bin/, include/, lib/, nvvm/; 1.2 GB"; }

path_of() { [ "$1" = cuda ] && echo "$cache/cuda-13.0"; }

present() { [ -f "$cache/cuda-13.0/SHA256SUMS" ]; }

verify() {
    (cd "$cache/cuda-13.0" && sha256sum --quiet -c SHA256SUMS >&2) && return 0
    rm -rf "$cache/cuda-13.0"
    return 1
}

# One line a wheel: file, requirement, SHA-256. Of cccl only nv/, which cuda_fp16.h includes. cuobjdump is published from 13.2 on, and reads what 13.0
# compiles.
cuda_wheels() {
    local old=py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl
    cat <<WHEELS
nvidia_cuda_nvcc-13.0.88-$old nvidia-cuda-nvcc==13.0.88 56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03
nvidia_cuda_crt-13.0.88-$old nvidia-cuda-crt==13.0.88 2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4
nvidia_nvvm-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl nvidia-nvvm==13.0.88 c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0
nvidia_cuda_runtime-13.0.96-$old nvidia-cuda-runtime==13.0.96 7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
nvidia_cuda_cccl-13.0.85-$old nvidia-cuda-cccl==13.0.85 e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649
nvidia_cuda_cuobjdump-13.2.51-$old nvidia-cuda-cuobjdump==13.2.51 95c69d3ddf0c2c1f535ec44c3433a66aeee19f588d9d22f73356e20b25f12b50
nvidia_cublas-13.1.0.3-py3-none-manylinux_2_27_x86_64.whl nvidia-cublas==13.1.0.3 ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171
nvidia_nccl_cu13-2.28.9-py3-none-manylinux_2_18_x86_64.whl nvidia-nccl-cu13==2.28.9 e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42
WHEELS
}

fetch() {
    local file requirement sha wheels=()
    [ "$(uname -m)" = x86_64 ] || die "the CUDA wheels pinned here are for x86_64, this machine is $(uname -m)" "install a CUDA toolkit and put its nvcc in PATH"
    terms "What follows is NVIDIA's software under the NVIDIA CUDA toolkit EULA, whose text is in the licenses/ folder of what is fetched; by using it you agree to it."
    while read -r file requirement sha; do
        pypi "$file" "$requirement" "$sha" --only-binary=:all: --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
            --platform manylinux_2_18_x86_64 --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 >/dev/null
        wheels+=("$file")
    done < <(cuda_wheels)
    mkdir "$tmp/cuda"
    python3 - "$tmp/cuda" "${wheels[@]/#/$cache/downloads/}" <<'PYTHON'
import os, sys, zipfile
out = sys.argv[1]
unused = ("libcublas.so.13", "libnvblas.so.13", "libnvvm.so.4", "libcudadevrt.a", "__init__.py")
for wheel in sys.argv[2:]:
    with zipfile.ZipFile(wheel) as z:
        for info in z.infolist():
            name = info.filename
            inside = next((name[len(p):] for p in ("nvidia/cu13/", "nvidia/nccl/") if name.startswith(p)), None)
            if ".dist-info/licenses/" in name:
                inside = "licenses/" + name.split("-")[0] + ".txt"
            if not inside or "_cccl-" in wheel and not inside.startswith(("include/nv/", "licenses/")):
                continue
            if name.endswith("/") or ".." in inside or os.path.basename(inside) in unused:
                continue
            path = os.path.join(out, inside)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with z.open(info) as source, open(path, "wb") as f:
                while piece := source.read(1 << 20):
                    f.write(piece)
            if os.path.dirname(inside) in ("bin", "nvvm/bin"):
                os.chmod(path, 0o755)
PYTHON
    [ -x "$tmp/cuda/bin/nvcc" ] && [ -f "$tmp/cuda/include/cuda.h" ] || die "the wheels hold no bin/nvcc or include/cuda.h" "look whether the pins in tools/fetch.d/cuda.sh still fit"
    (cd "$tmp/cuda" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum > ../SHA256SUMS && mv ../SHA256SUMS .)
    mv "$tmp/cuda" "$cache/cuda-13.0"
    pypi_done "${wheels[@]}"
}
