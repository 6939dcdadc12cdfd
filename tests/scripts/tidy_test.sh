#!/usr/bin/env bash
# clang-tidy finds nothing in the product's sources and headers (.clang-tidy).
#
# Sources of several folders are read as one, because nearly all of the time goes into their headers. Names with
# internal linkage therefore differ among them.
set -euo pipefail
cd "$1"
build=$(dirname "$2")
# Another version judges differently.
if [[ $(clang-tidy --version 2>/dev/null || true) != *"version 14."* ]]; then
  echo "skipped: needs clang-tidy 14 (Debian 12's clang-tidy)"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Collects the sources of this build, which are fewer without the CUDA Toolkit, their folders of headers and their
# definitions.
cmake -S . -B "$work/alone" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DISTHMUS_COMPILE_TOGETHER=OFF \
  "-DISTHMUS_CUDA=$(sed -n 's/^ISTHMUS_CUDA:STRING=//p' "$build/CMakeCache.txt")" >/dev/null
commands=$work/alone/compile_commands.json
grep -oE "\"file\": \"$PWD/(runtime|ops|parallel|model|checkpoint|launch|tools)/[^\"]*\.cc\"" "$commands" |
  cut -d'"' -f4 | sort -u >"$work/sources"
mapfile -t flags < <(grep '"command"' "$commands" | grep -oE -- '-isystem [^ ]+|-[ID][^ ]+' | grep -v '\\' |
  sed "s|$work/alone|$build|" | sort -u | tr ' ' '\n')

# Kernels for several instruction sets include themselves, and SentencePiece's header does not go with Abseil's names.
# Those are read alone.
while read -r file; do
  name=${file#"$PWD"/}
  case $name in
    model/*) group=model ;;
    ops/cuda/cudnn/*) group=cudnn ;;
    ops/* | runtime/cuda/* | parallel/nccl/*) group=kernels ;;
    tools/*) group=tools ;;
    *) group=program ;;
  esac
  if grep -qE 'HWY_TARGET_INCLUDE|sentencepiece_processor|int main\(' "$file"; then group=${name//\//_}; fi
  echo "#include \"$file\"" >>"$work/$group.cc"
done <"$work/sources"

# Groups lie outside the project, where clang-tidy would not find its settings. Kernels for several instruction sets are
# the same source, so one of them is read. The largest groups come first.
find "$work" -maxdepth 1 -name '*.cc' -printf '%s %p\0' | sort -znr | cut -zd' ' -f2- |
  xargs -0 -P "$(nproc)" -n 1 bash -c 'clang-tidy --quiet --config-file=.clang-tidy "${@: -1}" -- "${@:1:$#-1}" 2>/dev/null' tidy \
    -std=c++20 -fopenmp -DHWY_COMPILE_ONLY_STATIC "${flags[@]}"
