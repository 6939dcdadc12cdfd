# Sourced by tools/gpu-check: unpacks a bundle, checks it, and finds out how its programs start on this machine.

unpack() {  # FILE FOLDER
  tar -C "$2" -xf "$1" || return
  "$2/unxz/ld-linux-x86-64.so.2" --library-path "$2/unxz" "$2/unxz/xz" -dc "$2/bundle.tar.xz" | tar -C "$2" -xf - || return
  rm -r "$2/unxz" "$2/bundle.tar.xz"
}

check_integrity() {  # ROOT
  (cd "$1" && sha256sum --check --quiet --strict SHA256SUMS) >&2
}

# Lists folders that may hold NVIDIA's libraries, likely ones first. The loader's own cache is looked at last.
nvidia_folders() {
  local folder
  tr : '\n' <<<"${LD_LIBRARY_PATH:-}"
  for folder in ${CUDA_HOME:+"$CUDA_HOME/lib64"} /usr/local/cuda/lib64 /usr/local/cuda/lib /usr/local/cuda-*/lib64 \
    /usr/lib/x86_64-linux-gnu /usr/lib64 /usr/local/nvidia/lib64 /usr/local/nvidia/lib; do
    echo "$folder"
  done
  # PyTorch's packages bring these folders: nvidia/cu13/lib, nvidia/cudnn/lib, nvidia/nccl/lib.
  if command -v python3 >/dev/null; then
    python3 -c 'import glob, nvidia
for path in nvidia.__path__:
    print("\n".join(sorted(glob.glob(path + "/*/lib"), reverse=True)))' 2>/dev/null
  fi
  ldconfig -p 2>/dev/null | sed -nE 's/.*=> (.*)\/lib(cublasLt|cudnn|nccl|nvrtc)\.so.*/\1/p'
}

# Says whether version $1 is at least version $2.
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -1)" = "$2" ]; }

# Writes ROOT/machine with two settings. `loader` is system, or bundled if this machine's C library is older than the
# programs. `nvidia_path` lists the folders of NVIDIA's libraries.
prepare_machine() {  # ROOT
  local root=$1 name folder found missing=() path='' folders here needed
  mapfile -t folders < <(nvidia_folders)
  while read -r name; do
    found=
    for folder in "${folders[@]}"; do
      [ -n "$folder" ] && [ -e "$folder/$name" ] || continue
      found=$folder
      break
    done
    [ -n "$found" ] || missing+=("$name")
    [[ :$path: == *":$found:"* ]] || path+=${path:+:}$found
  done <"$root/nvidia-libraries"
  # This is the driver's own library; the loader finds it too where it is installed as usual.
  for folder in "${folders[@]}"; do
    [ -n "$folder" ] && [ -e "$folder/libcuda.so.1" ] && [[ :$path: != *":$folder:"* ]] && path+=:$folder && break
  done
  if [ ${#missing[@]} -gt 0 ]; then
    echo "gpu-check: ${missing[*]} not found; they come with the CUDA Toolkit, cuDNN and NCCL, or with PyTorch for the" \
      "same CUDA version; name their folders in LD_LIBRARY_PATH" >&2
    return 1
  fi
  needed=$(sed -n 's/^c_library=//p' "$root/VERSION")
  here=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)
  {
    if [ -n "$here" ] && at_least "$here" "$needed"; then echo loader=system; else echo loader=bundled; fi
    printf 'nvidia_path=%q\n' "$path"
  } >"$root/machine"
}
