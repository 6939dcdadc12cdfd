#!/usr/bin/env bash
# All sources are formatted as .clang-format says.
set -euo pipefail
cd "$1"
if ! command -v clang-format >/dev/null; then
  echo "skipped: no clang-format (install clang-format)"
  exit 77
fi
find runtime ops parallel model checkpoint launch tests tools -name '*.cc' -o -name '*.h' |
  xargs clang-format --dry-run -Werror
