#!/usr/bin/env bash
# Tests launch/slurm/submit and launch/mpirun/train. The help lists all that is accepted. A line that can't be accepted
# is refused before anything starts. The line that would start is the one that is meant. tests/distributions/run refuses
# wrong arguments in the same way.
set -euo pipefail
cd "$1"
program=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo 'folder: "run"' >"$work/run of mine.textproto"
config=$work/run\ of\ mine.textproto
fail() { echo "$1"; exit 1; }
expect() { grep -qF -- "$2" <<<"$1" || fail "not in: $1"$'\n'"missing: $2"; }
# COMMAND… ends with status 2 and says WHAT.
refuses() {
  local what=$1 out status=0
  shift
  out=$("$@" 2>&1) || status=$?
  [ "$status" -eq 2 ] || fail "$*: status $status, $out"
  expect "$out" "$what"
}

for script in launch/slurm/submit launch/mpirun/train; do
  [ -x "$script" ] || fail "$script is not executable"
  bash -n "$script"
  help=$("$script" --help)
  # Every option of the help is accepted; only its value is refused.
  options=$(sed -nE 's/^  --([a-z-]+).*/\1/p' <<<"$help")
  [ "$(wc -l <<<"$options")" -ge 7 ] || fail "$script --help lists too little: $help"
  for option in $options; do
    out=$("$script" --config /nowhere "--$option" 2>&1) && fail "$script --$option: ended well"
    ! grep -q 'unknown argument' <<<"$out" || fail "$script does not know --$option of its help"
  done
  # Every option that the script uses is in the help.
  for option in $(grep -oE 'option\[[a-z-]+\]' "$script" launch/script_options | sed -E 's/.*\[(.*)\]/\1/' | sort -u); do
    [ "$option" = name ] || grep -qx "$option" <<<"$options" || fail "$script: --$option is not in the help"
  done
  refuses 'unknown argument "--fly"' "$script" --fly
  refuses '--config is missing' "$script"
  refuses "--config: can't read /nowhere" "$script" --config /nowhere --program "$program"
  refuses '--program: no program at /nowhere' "$script" --config "$config" --program /nowhere
  refuses '--config needs a value: FILE' "$script" --config
  refuses '--dry-run takes no value' "$script" --dry-run=1
done

refuses '--nodes: found "two"; accepts a whole number' launch/slurm/submit --nodes two
refuses '--nodes: found 0; accepts 1 or more' launch/slurm/submit --config "$config" --program "$program" --nodes=0
out=$(launch/slurm/submit --config "$config" --program "$program" --nodes 3 --gpus-per-node=8 --time 1:00:00 --partition p \
  --name n --signal-before 90 --max-requeues 7 --logs "$work/logs" --set a=1 --set 'b="c d"' --sbatch=--account=x --dry-run)
expect "$out" 'srun --mpi=pmix'
line=$(tail -n 1 <<<"$out")
for part in "'--job-name=n' '--nodes=3' '--ntasks-per-node=8' '--time=1:00:00'" "'--output=$work/logs/%x-%j.log'" \
  "'--gpus-per-node=8'" "'--exclusive'" "'--partition=p'" "'--signal=USR1@90'" "'--account=x'" \
  "'$PWD/launch/slurm/train.sbatch' '$PWD' '$work/logs' '7' '$program'" \
  "'train' '--config' '$config' '--set' 'a=1' '--set' 'b=\"c d\"' '--resume' 'auto'"; do
  expect "$line" "$part"
done
[ ! -e "$work/logs" ] || fail "--dry-run made a folder"
line=$(launch/slurm/submit --config "$config" --program "$program" --tasks-per-node 4 --cpus-per-task 6 --signal-before 0 --dry-run | tail -n 1)
expect "$line" "'--ntasks-per-node=4'"
expect "$line" "'--cpus-per-task=6'"
! grep -qE 'exclusive|signal|gpus|partition' <<<"$line" || fail "not wanted: $line"

# A sweep is an array. Its runs have all ranks of a task, where it has several or GPUs.
echo 'base: "none"' >"$work/sweep of mine"
sweep=(launch/slurm/submit --sweep "$work/sweep of mine" --program "$program" --logs "$work/logs")
out=$("${sweep[@]}" --workers 8 --jobs 4 --name n --signal-before 90 --max-requeues 7 --set a=1 --set 'b="c d"' --dry-run)
expect "$out" 'srun --mpi=pmix'
expect "$out" 'scontrol requeue'
line=$(tail -n 1 <<<"$out")
for part in "'--job-name=n' '--nodes=1' '--ntasks-per-node=1'" "'--array=0-7'" "'--output=$work/logs/%x-%A_%a.log'" \
  "'--signal=B:USR1@90'" "'$PWD/launch/slurm/sweep.sbatch' '$PWD' 'each' '7' '$program'" \
  "'sweep' '--config' '$work/sweep of mine' '--jobs' '4' '--lost-runs' '3' '--set' 'a=1' '--set' 'b=\"c d\"'"; do
  expect "$line" "$part"
done
! grep -qE 'resume|gpus' <<<"$line" || fail "not wanted: $line"
expect "$("${sweep[@]}" --dry-run | tail -n 1)" "'--array=0-0'"
expect "$("${sweep[@]}" --retry-failed --dry-run | tail -n 1)" "'--lost-runs' '3' '--retry-failed'"
refuses '--retry-failed needs --sweep' launch/slurm/submit --config "$config" --program "$program" --retry-failed
for more in '--gpus-per-node 1' '--nodes 2' '--tasks-per-node 2'; do
  expect "$("${sweep[@]}" $more --dry-run | tail -n 1)" "sweep.sbatch' '$PWD' 'all' '20'"
  refuses '--jobs: found 2; accepts 1 where a task has several ranks or GPUs' "${sweep[@]}" $more --jobs 2 --dry-run
done
refuses '--workers: found 0; accepts 1 or more' "${sweep[@]}" --workers 0 --dry-run
refuses '--workers: found "-1"; accepts a whole number' "${sweep[@]}" --workers -1 --dry-run
refuses '--jobs: found 0; accepts 1 or more' "${sweep[@]}" --jobs 0 --dry-run
refuses '--sweep: found --config as well; accepts one of them' "${sweep[@]}" --config "$config" --dry-run
refuses "--sweep: can't read /nowhere" launch/slurm/submit --sweep /nowhere --program "$program"
refuses '--workers: found 2; without --sweep accepts 1' launch/slurm/submit --config "$config" --program "$program" --workers 2
bash -n launch/slurm/job_parts

printf 'one slots=8\n# none\n\ntwo\n' >"$work/hosts"
line=$(launch/mpirun/train --config "$config" --program "$program" --hosts "$work/hosts" --ranks-per-host 4 --set a=1 --dry-run)
expect "$(NCCL_IB_HCA=mlx5 LD_LIBRARY_PATH=/lib launch/mpirun/train --config "$config" --program "$program" --dry-run)" \
  "'-x' 'LD_LIBRARY_PATH' '-x' 'NCCL_DEBUG' '-x' 'NCCL_IB_HCA'"
expect "$line" "'--hostfile' '$work/hosts' '--map-by' 'ppr:4:node' '-n' '8'"
expect "$line" "'$program' 'train' '--config' '$config' '--set' 'a=1' '--resume' 'auto'"
echo '# none' >"$work/hosts"
refuses 'names no host' launch/mpirun/train --config "$config" --program "$program" --hosts "$work/hosts"

refuses 'found distribution "plan9"; accepts debian-12, debian-13' tests/distributions/run plan9
refuses 'found command "fly"; accepts quickstart, tests' tests/distributions/run debian-13 fly

mkdir -p "$work/a folder/tests" "$work/a folder/launch"
export TMPDIR="$work/a folder"
refuses "TMPDIR: found \"$TMPDIR\"; accepts a folder whose path has neither white space nor backslashes" \
  tests/distributions/run debian-13
refuses "$TMPDIR: found \" \"; tests accept no white space" tests/run none
export TMPDIR=$work/nowhere
refuses "TMPDIR: found \"$TMPDIR\", which is no folder" tests/distributions/run debian-13
unset TMPDIR
cp tests/run "$work/a folder/tests"
cp launch/mpi_environment "$work/a folder/launch"
refuses "$work/a folder: found \" \"; tests accept no white space" "$work/a folder/tests/run" none
