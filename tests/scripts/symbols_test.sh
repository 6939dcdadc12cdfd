#!/usr/bin/env bash
# The program exports no symbol of Protobuf, and takes none from another library (see proto/CMakeLists.txt).
set -euo pipefail
program=$2
found=$(nm -DC "$program" | grep 'google::protobuf' || true)
if [ -n "$found" ]; then
  printf '%s shares symbols of Protobuf with other libraries:\n%s\n' "$program" "$found"
  exit 1
fi
# The check would notice them: they are in the program, hidden.
[ "$(nm -C "$program" | grep -c 'google::protobuf::Message')" -gt 0 ] || { echo "no symbols to check: stripped?"; exit 1; }
