#!/usr/bin/env bash
# A kind of head, block or family is named in its own room and in the schema alone. Elsewhere the program asks the list
# of kinds, so that a new one needs no other file. The test also fails when the check itself would not notice.
set -euo pipefail
cd "$1"

# Names of kinds as the files of the rooms are called, and of the settings that choose one. "full", "wide", "copy" and
# "attention" are words of other meanings too: as kinds they stand in quotes.
kinds() {
  for file in model/heads/*.cc model/families/*.cc model/blocks/*.cc; do
    case $(basename "$file" .cc) in
      heads | lm_head | softmax_loss | token_jacobians | class_sample | sampled_rows | vocabulary_product | family | blocks) ;;
      full) echo '"full"' ;;
      cluster) echo 'ClusterHead' ;;
      wide) echo 'WideHead|"wide"' ;;
      copy) echo 'CopyHead|"copy"' ;;
      sampled) echo 'SampledHead|"sampled"' ;;
      attention) echo 'AttentionKind|"attention"' ;;
      *) name=$(basename "$file" .cc); echo "\\b${name}\\b|\\b${name^}\\b|${name^}Kind" ;;
    esac
  done
  echo '\btied\b|\btied_embeddings\b|\bhead_rank\b|\bHeadRankOf\b'
}
pattern=$(kinds | paste -sd'|')

offences() { grep -rnE "$pattern" --include='*.h' --include='*.cc' "$@" | grep -vE '^model/(heads|blocks|families)/' || true; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
while IFS= read -r bad; do
  echo "$bad" >"$work/bad.cc"
  [ -n "$(offences "$work")" ] || { echo "the check does not notice: $bad"; exit 1; }
done <<'BAD'
if (config.head_rank() > 0) return;
// Of a factorised head.
const BlockKind kind = SwigluKind();
if (family == "llama") return;
bool tied = false;
if (kind == "wide") return;
if (kind == "copy") return;
BAD

# Utilisation counts attention "causal" or "full", and a step goes along the "full" gradient or the "visible" part.
found=$(offences runtime parallel model checkpoint launch | grep -vE '"causal"|"full", "visible"' || true)
if [ -n "$found" ]; then
  printf 'kinds of heads, blocks or families are named outside their rooms:\n%s\n' "$found"
  exit 1
fi
