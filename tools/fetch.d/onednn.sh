# SPDX-License-Identifier: Apache-2.0
# onednn.sh: oneDNN 3.2 with the GNU OpenMP runtime, to check that the cpu backend also compiles and links against the v3 API.
describe() { printf '%s\t%s\n' onednn-v3 "oneDNN 3.2 headers and library (Apache-2.0), a folder: include/, lib/"; }

path_of() { [ "$1" = onednn-v3 ] && echo "$cache/onednn-3.2"; }

present() { [ -f "$cache/onednn-3.2/SHA256SUMS" ]; }

verify() {
    (cd "$cache/onednn-3.2" && sha256sum --quiet -c SHA256SUMS >&2) && return 0
    rm -rf "$cache/onednn-3.2"
    return 1
}

fetch() {
    local version=2023.2.0 tag=py2.py3-none-manylinux1_x86_64 wheels=()
    wheels=("onednn_devel_cpu_gomp-$version-$tag.whl" "onednn_cpu_gomp-$version-$tag.whl")
    pypi "${wheels[0]}" onednn-devel-cpu-gomp==$version 9763c69e8c907e119056bd52ad918ca84ac9ba939d130a99dfa95ccca3e5e284 >/dev/null
    pypi "${wheels[1]}" onednn-cpu-gomp==$version 2f22a54d6a890ed14bfa185d42a4be65d8b5b1df85dc1f0f3a9abe31620416fb >/dev/null
    mkdir "$tmp/v3"
    python3 - "$tmp/v3" "$cache/downloads/${wheels[0]}" "$cache/downloads/${wheels[1]}" <<'PYTHON'
import os, sys, zipfile
out = sys.argv[1]
for wheel in sys.argv[2:]:
    with zipfile.ZipFile(wheel) as z:
        for name in z.namelist():
            _, data, inside = name.partition(".data/data/")
            if data and not inside.endswith((".so", ".so.3.2")) and ".." not in inside:  # libdnnl.so.3 is the file; the others are copies
                path = os.path.join(out, inside)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as f:
                    f.write(z.read(name))
PYTHON
    ln -s libdnnl.so.3 "$tmp/v3/lib/libdnnl.so"
    (cd "$tmp/v3" && find include lib -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum > SHA256SUMS)
    mv "$tmp/v3" "$cache/onednn-3.2"
    pypi_done "${wheels[@]}"
}
