#!/usr/bin/env bash
# clang-tidy finds nothing in the product's sources and headers (.clang-tidy).
#
# The sources of a folder are read as one, because nearly all of the time goes into their headers. Where that finds
# something, it may be two files that only clash with each other: they are then read one by one, and that decides.
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
export build work

# Of kernels for several instruction sets one is read: they are the same source. Groups lie outside the project, where
# clang-tidy would not find its settings, and include sources on purpose.
tidy() {
  clang-tidy --quiet --config-file="$PWD/.clang-tidy" --checks=-bugprone-suspicious-include -p "$1" \
    --extra-arg=-DHWY_COMPILE_ONLY_STATIC --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-unknown-attributes \
    --extra-arg=-Wno-shadow "${@:2}"
}
# GROUP: a list of files in $work/GROUP.list.
check() {
  mapfile -t files <"$work/$1.list"
  if [ ${#files[@]} -gt 1 ] && tidy "$work" "$work/$1.cc" >/dev/null 2>&1; then return; fi
  tidy "$work/commands" "${files[@]}" 2>/dev/null
}
export -f tidy check

# How each file is compiled alone, as this build would: without the CUDA Toolkit that is fewer files.
cmake -S . -B "$work/alone" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DISTHMUS_COMPILE_TOGETHER=OFF \
  "-DISTHMUS_CUDA=$(sed -n 's/^ISTHMUS_CUDA:STRING=//p' "$build/CMakeCache.txt")" >/dev/null
mkdir "$work/commands"
sed "s|$work/alone|$build|g" "$work/alone/compile_commands.json" >"$work/commands/compile_commands.json"

# Kernels for several instruction sets include themselves, and SentencePiece's header does not go with Abseil's names:
# those are read alone.
grep -oE "\"file\": \"$PWD/(runtime|ops|parallel|model|checkpoint|launch|tools)/[^\"]*\.cc\"" "$work/commands/compile_commands.json" |
  cut -d'"' -f4 | sort -u >"$work/sources"
while read -r file; do
  group=$(dirname "${file#"$PWD"/}")
  if grep -qE 'HWY_TARGET_INCLUDE|sentencepiece_processor|int main\(' "$file"; then group=${file#"$PWD"/}; fi
  group=${group//\//_}
  echo "$file" >>"$work/$group.list"
  echo "#include \"$file\"" >>"$work/$group.cc"
done <"$work/sources"
# A group is compiled as its first file is.
for list in "$work"/*.list; do
  first=$(head -1 "$list")
  grep -B2 "\"file\": \"$first\"" "$work/commands/compile_commands.json" | head -3 | sed "s|$first|${list%.list}.cc|g"
  echo '},{'
done | sed '1s/^/[{/; $s/},{/}]/' >"$work/compile_commands.json"
printf '%s\n' "$work"/*.list | sed 's|.*/||; s|\.list$||' | xargs -P "$(nproc)" -I{} bash -c 'check {}'
