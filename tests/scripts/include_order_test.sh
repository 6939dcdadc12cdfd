#!/usr/bin/env bash
# An include points only upwards in the list of folders: proto runtime ops parallel model checkpoint launch. Also fails
# when the check itself would not notice.
set -euo pipefail
cd "$1"
order=(proto runtime ops parallel model checkpoint launch)

rank() {
  for i in "${!order[@]}"; do [ "${order[$i]}" = "$1" ] && { echo "$i"; return; }; done
  echo -1
}

# Reads "file:line:#include "folder/…"" and prints those that point downwards.
offences() {
  while IFS= read -r match; do
    folder=${match%%/*}
    included=$(sed -E 's/.*#include "([a-z]+)\/.*/\1/' <<<"$match")
    if [ "$(rank "$included")" -gt "$(rank "$folder")" ] || [ "$(rank "$included")" -eq -1 ]; then echo "$match"; fi
  done
}

for folder in "${order[@]}"; do [ -d "$folder" ] || { echo "no folder $folder"; exit 1; }; done
bad='ops/x.h:3:#include "model/transformer.h"'
[ "$(offences <<<"$bad")" = "$bad" ] || { echo "the check does not notice a wrong include"; exit 1; }

found=$(grep -rnE '^#include "' --include='*.h' --include='*.cc' --include='*.cu' --include='*.cuh' "${order[@]}" | offences || true)
if [ -n "$found" ]; then
  printf 'includes that point down the order (%s):\n%s\n' "${order[*]}" "$found"
  exit 1
fi
# No other folder names MPI or NCCL.
found=$(grep -rnlE '\bMPI_[A-Z]|\bnccl[A-Z]' --include='*.h' --include='*.cc' runtime ops model checkpoint launch || true)
if [ -n "$found" ]; then
  printf 'only parallel/ names MPI or NCCL:\n%s\n' "$found"
  exit 1
fi
