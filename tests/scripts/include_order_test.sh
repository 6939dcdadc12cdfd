#!/usr/bin/env bash
# An include points only upwards in the list of folders: proto runtime ops parallel model checkpoint launch. Within
# model/ the rooms train and generate include measure, and all of them include the parts of models. The test also fails
# when the check itself would not notice.
set -euo pipefail
cd "$1"
order=(proto runtime ops parallel model checkpoint launch)

rank() {
  for i in "${!order[@]}"; do [ "${order[$i]}" = "$1" ] && { echo "$i"; return; }; done
  echo -1
}

# Prints the place of a file of model/ in the order of its rooms, and the room.
room() {
  case $1 in
    model/train/*) echo 2 train ;;
    model/generate/*) echo 2 generate ;;
    model/measure/*) echo 1 measure ;;
    *) echo 0 parts ;;
  esac
}

# Says whether a file of model/ may not include another one.
crosses() {
  local from to
  read -ra from <<<"$(room "$1")"
  read -ra to <<<"$(room "$2")"
  [ "${to[0]}" -gt "${from[0]}" ] || { [ "${to[0]}" -eq "${from[0]}" ] && [ "${to[1]}" != "${from[1]}" ]; }
}

# Reads "file:line:#include "folder/…"" and prints those that point downwards.
offences() {
  while IFS= read -r match; do
    file=${match%%:*} included=${match#*'"'}
    included=${included%%'"'*}
    from=$(rank "${file%%/*}") to=$(rank "${included%%/*}")
    if [ "$to" -gt "$from" ] || [ "$to" -eq -1 ]; then
      echo "$match"
    elif [[ $file = model/* && $included = model/* ]] && crosses "$file" "$included"; then
      echo "$match"
    fi
  done
}

for folder in "${order[@]}"; do [ -d "$folder" ] || { echo "no folder $folder"; exit 1; }; done
while IFS= read -r bad; do
  [ "$(offences <<<"$bad")" = "$bad" ] || { echo "the check does not notice $bad"; exit 1; }
done <<'BAD'
ops/x.h:3:#include "model/transformer.h"
runtime/x.h:3:#include "tools/x.h"
model/blocks/x.h:3:#include "model/measure/x.h"
model/x.cc:3:#include "model/train/x.h"
model/measure/x.h:3:#include "model/train/x.h"
model/generate/x.h:3:#include "model/train/x.h"
BAD
good='model/train/x.h:3:#include "model/measure/x.h"'
[ -z "$(offences <<<"$good")" ] || { echo "the check refuses $good"; exit 1; }

found=$(grep -rnE '^#include "' --include='*.h' --include='*.cc' --include='*.cu' --include='*.cuh' "${order[@]}" | offences || true)
if [ -n "$found" ]; then
  printf 'includes that point down the order (%s; in model/: parts, measure, train and generate):\n%s\n' "${order[*]}" "$found"
  exit 1
fi
# No other folder names MPI or NCCL.
found=$(grep -rnlE '\bMPI_[A-Z]|\bnccl[A-Z]' --include='*.h' --include='*.cc' runtime ops model checkpoint launch || true)
if [ -n "$found" ]; then
  printf 'only parallel/ names MPI or NCCL:\n%s\n' "$found"
  exit 1
fi
