# Sourced by tools/gpu-check: packs the programs of the preset `cuda` with all they need but NVIDIA's own libraries.
#
# The bundle brings its C library and loader too, for machines whose own is older (unpack.sh decides). Programs lie in
# libexec and are started through bin/NAME, links to gpu_check/start.

# The bundle runs these programs. Tests that never touch a GPU show, with --without-gpu, that it works.
bundle_programs=(isthmus bench/kernels_bench bench/products_bench bench/training_bench tests/ops_tests tests/launch_tests
  tests/model_tests tests/model_mpi_tests tests/parallel_mpi_tests)
bundle_limit_mebibytes=50
# These libraries are NVIDIA's, which a machine with a GPU has.
nvidia_libraries='^lib(cuda|cudart|cublas|cublasLt|cudnn[a-z_]*|nvrtc|nccl|nv[A-Za-z-]*)\.so'
# These are parts of the C library, which only its own loader can load.
c_library='^(ld-linux-x86-64|libc|libm|libdl|libpthread|librt|libutil|libresolv|libanl|libnss_[a-z]+)\.so'
# These parts of Open MPI are fast networks, whose libraries are large, and one-sided communication. A bundle runs on
# one machine.
network_libraries='libucp|libfabric|libpsm|libibverbs|liboshmem'

# Prints "name path" of every library that the given programs need.
libraries_of() {
  ldd "$@" | awk '/not found/ { print "missing: " $1 > "/dev/stderr"; exit 1 }
    $2 == "=>" { print $1, $3 } $1 ~ /^\/.*ld-linux/ { n = split($1, part, "/"); print part[n], $1 }' | sort -u
}

copy_open_mpi() {  # TO
  local modules pmix module
  info() { ompi_info --path "$1" --parsable | cut -d: -f3; }
  modules=$(info pkglibdir)
  mkdir -p "$1"/{modules,pmix,share,etc} || return
  for module in "$modules"/mca_*.so; do
    ldd "$module" | grep -E "$network_libraries" >/dev/null || cp "$module" "$1/modules/" || return
  done
  cp "$(info pkgdatadir)"/*.txt "$1/share/"
  : >"$1/etc/openmpi-default-hostfile"
  : >"$1/etc/openmpi-mca-params.conf"
  # PMIx keeps its modules beside its library.
  pmix=$(ldd "$modules"/mca_pmix_ext3x.so 2>/dev/null | awk '$1 ~ /^libpmix/ { print $3 }')
  [ -n "$pmix" ] || { echo "gpu-check: Open MPI's module for PMIx was not found in $modules" >&2; return 1; }
  cp "$(dirname "$(readlink -f "$pmix")")"/pmix/pmix_mca_*.so "$1/pmix/" || return
}

# Makes token shards for the 2B model's speed. Their contents do not matter, only that the program made and reads them.
make_corpus() {  # PROGRAM TO
  local text=$2/corpus.jsonl
  mkdir -p "$2" || return
  awk 'BEGIN { state = 1
    for (d = 0; d < 1500; ++d) {
      line = "{\"text\": \""
      for (w = 0; w < 300; ++w) {
        state = (state * 69069 + 1) % 4294967296
        word = ""
        for (k = int(state / 65536) % 400; k >= 0; k = int(k / 20) - 1)
          word = word substr("abcdefghijklmnoprstu", k % 20 + 1, 1) "o"
        line = line (w ? " " : "") word
      }
      print line ".\"}" } }' >"$text" || return
  "$1" tokenizer train --out "$2/tokenizer.model" --vocabulary 400 "$text" >&2 || return
  "$1" tokenizer encode --tokenizer "$2/tokenizer.model" --out "$2/tokens" --validation-fraction 0.1 "$text" >&2 || return
  rm "$text"
}

# Builds the programs of the bundle, and nothing else.
build_programs() {  # ROOT
  local targets=() program
  for program in "${bundle_programs[@]}"; do targets+=("$(basename "$program")"); done
  (cd "$1" && { [ -f build/cuda/build.ninja ] || cmake --preset cuda; } &&
    cmake --build --preset cuda --target "${targets[@]}") >&2
}

# Lays the bundle out in the empty folder BUNDLE.
collect_bundle() {  # ROOT BUILD BUNDLE
  local root=$1 build=$2 bundle=$3 program libraries name path cublaslt
  for name in cudnn nccl; do
    ldd "$build/isthmus" | grep "lib$name\." >/dev/null || { echo "$build was built without $name" >&2; return 1; }
  done
  # The program loads this library itself (ops/cuda/cublaslt.h).
  cublaslt=$("$build/isthmus" doctor | sed -nE 's/^cuBLASLt +([0-9]+)\..*/libcublasLt.so.\1/p')
  [ -n "$cublaslt" ] || { echo "$build was built without cublasLt" >&2; return 1; }
  mkdir -p "$bundle"/{bin,libexec,lib,glibc,tests} "$bundle"/tools/{compare,golden} || return
  for program in "${bundle_programs[@]}"; do cp "$build/$program" "$bundle/libexec/" || return; done
  strip "$bundle"/libexec/* || return
  cp "$(readlink -f "$(command -v mpirun)")" "$bundle/libexec/mpirun" || return
  cp "$(command -v orted)" "$bundle/libexec/" || return
  copy_open_mpi "$bundle/openmpi" || return
  for program in "$bundle"/libexec/*; do
    ln -s ../tools/gpu_check/start "$bundle/bin/$(basename "$program")" || return
  done

  echo "$cublaslt" >"$bundle/nvidia-libraries"
  libraries=$(libraries_of "$bundle"/libexec/* "$bundle"/openmpi/*/*.so) || return
  while read -r name path; do
    if [[ $name =~ $nvidia_libraries ]]; then
      echo "$name" >>"$bundle/nvidia-libraries"
    elif [[ $name =~ $c_library ]]; then
      cp -L "$path" "$bundle/glibc/$name" || return
    else
      cp -L "$path" "$bundle/lib/$name" || return
    fi
  done <<<"$libraries"

  cp -r "$root/tests/golden" "$bundle/tests/" && cp -r "$root/launch/configs" "$bundle/" || return
  cp -r "$root/tools/gpu-check" "$root/tools/gpu_check" "$bundle/tools/" || return
  cp "$root/tools/compare/pytorch_step.py" "$bundle/tools/compare/" || return
  cp "$root/tools/golden/decoder.py" "$bundle/tools/golden/" || return
  make_corpus "$build/isthmus" "$bundle/data" || return
  {
    echo "commit=$(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)"
    echo "packed=$(date -u +%Y-%m-%dT%H:%M:%SZ)"
    echo "c_library=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)"
    echo "cuda=$(sed -nE 's/^set\(CMAKE_CUDA_COMPILER_VERSION "([^"]*)"\)$/\1/p' \
      "$build"/CMakeFiles/*/CMakeCUDACompiler.cmake | head -1)"
  } >"$bundle/VERSION"
  (cd "$bundle" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum >SHA256SUMS)
}

# Makes a tar of the compressed bundle and of xz with its libraries, because images for GPUs often have no xz.
pack_bundle() {  # PLACE FILE: the folder that isthmus-gpu-check is in
  local tar=(tar -C "$1" --sort=name --owner=0 --group=0 --numeric-owner) name path libraries
  mkdir "$1/unxz" && cp "$(command -v xz)" "$1/unxz/" || return
  libraries=$(libraries_of "$1/unxz/xz") || return
  while read -r name path; do cp -L "$path" "$1/unxz/$name" || return; done <<<"$libraries"
  # The programs share most of their code, which a window as large as all of them finds.
  "${tar[@]}" -cf - isthmus-gpu-check | xz -T1 --lzma2=preset=3,dict=128MiB >"$1/bundle.tar.xz" || return
  mkdir -p "$(dirname "$2")"
  "${tar[@]}" -cf "$2.new" unxz bundle.tar.xz && mv "$2.new" "$2"
}

make_bundle() {  # ROOT FILE
  local root=$1 file=$2 place bundle size
  build_programs "$root" || fail 1 "the build failed"
  place=$(mktemp -d) || return
  trap "rm -rf '$place'" EXIT
  bundle=$place/isthmus-gpu-check
  collect_bundle "$root" "$root/build/cuda" "$bundle" || fail 1 "the bundle could not be put together"
  pack_bundle "$place" "$file" || fail 1 "$file could not be written"
  size=$(stat -c %s "$file")
  printf '%s: %d.%d MiB, %d programs, %d libraries\n' "$file" $((size >> 20)) $(((size & 1048575) * 10 >> 20)) \
    "$(find "$bundle/libexec" -type f | wc -l)" "$(find "$bundle/lib" "$bundle/glibc" -type f | wc -l)"
  [ "$size" -lt $((bundle_limit_mebibytes << 20)) ] || fail 1 "the bundle is larger than $bundle_limit_mebibytes MiB"
}
