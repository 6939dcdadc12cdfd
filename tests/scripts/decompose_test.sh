#!/usr/bin/env bash
# `isthmus decompose` agrees with a brute-force decomposition by NumPy in every field, alone and under mpirun.
set -euo pipefail
cd "$1"
source launch/mpi_environment
for python in python3 /usr/bin/python3; do
  if "$python" -c 'import numpy' 2>/dev/null; then
    exec env OMP_NUM_THREADS=1 "$python" -B tests/decompose/check.py "$2" mpirun
  fi
done
echo "skipped: no Python with NumPy (launch/install tests installs python3-numpy)"
exit 77
