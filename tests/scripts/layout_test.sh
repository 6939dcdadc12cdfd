#!/usr/bin/env bash
# The top level holds what README says, and every script that people start is executable and free of syntax errors.
set -euo pipefail
cd "$1"
allowed='^(CMakeLists.txt|CMakePresets.json|README.md|LICENSE|runtime|model|parallel|ops|checkpoint|launch|proto|tests|tools|build|runs|\..*)$'
extra=$(find . -mindepth 1 -maxdepth 1 -printf '%f\n' | grep -vE "$allowed" || true)
[ -z "$extra" ] || { echo "not part of the layout: $extra"; exit 1; }
for script in launch/install launch/prepare launch/quickstart launch/experiments/run launch/experiments/families/prepare launch/slurm/submit launch/slurm/train.sbatch launch/slurm/sweep.sbatch \
  launch/mpirun/train tests/run tools/gpu-check tools/gpu_check/start tools/dashboards/up tests/slurm/cluster tests/distributions/run \
  tests/distributions/in_namespace tests/support/read_tensorboard .ci/run; do
  [ -x "$script" ] || { echo "$script is not executable"; exit 1; }
  bash -n "$script"
done
