# Sourced by tools/gpu-check: runs one command after the other, each with a time limit, and keeps the results.
failed_steps=0 skipped_steps=0 step_number=0 running= grace_seconds=${grace_seconds:-10}

# The clock of all limits, in seconds; tests replace it.
now() { echo "$SECONDS"; }

# Prints the seconds that are left of --seconds.
seconds_left() { if [ "$seconds" -eq 0 ]; then echo 1000000; else echo $((seconds - $(now))); fi; }

# Prints the processes of the running command's session, a line each: mpirun gives its ranks groups of their own.
session_members() {
  local file stat fields
  for file in /proc/[0-9]*/stat; do
    { read -r stat <"$file"; } 2>/dev/null || continue
    read -ra fields <<<"${stat##*) }"  # state, parent, group, session
    if [ "${fields[3]}" = "$running" ] && [ "${fields[0]}" != Z ]; then echo "${stat%% *}"; fi
  done
}

# Ends the running command with all that it has started, which may hold the GPU. A program that saves its state when
# told to end has $grace_seconds for it.
end_running() {
  local deadline members
  [ -n "$running" ] || return
  deadline=$(($(now) + grace_seconds))
  mapfile -t members < <(session_members)
  # Each process gets one signal, because a second one ends a program at once. The command itself may not have its
  # session yet.
  [ ${#members[@]} -gt 0 ] || members=("$running")
  kill -TERM "${members[@]}" 2>/dev/null
  while mapfile -t members < <(session_members) && [ ${#members[@]} -gt 0 ]; do
    if [ "$(now)" -ge "$deadline" ]; then kill -KILL "${members[@]}" 2>/dev/null; fi
    if [ "$(now)" -ge $((deadline + 5)) ]; then break; fi  # it hangs in the driver
    sleep 0.1
  done
}

# run_step NAME LIMIT COMMAND...
#
# The command may leave figures, one JSON value, in the file $figures, and text for results.md in $details. The results
# are passed, failed, skipped, out of time, and not started (--seconds are over). A step is skipped by exit status 77,
# or if its tests were all skipped. The latter is a failure unless $may_skip says why it is none.
run_step() {
  local name=$1 limit=$2 left log status result begin note expired=
  shift 2
  step_number=$((step_number + 1))
  local number
  number=$(printf '%03d' "$step_number")
  log=$work/logs/$number-${name//[^A-Za-z0-9._-]/-}.log
  export figures=$work/steps/$number.figures details=$work/steps/$number.text
  left=$(seconds_left)
  [ "$left" -ge "$limit" ] || limit=$left
  if [ "$left" -lt 5 ]; then
    keep_step "$name" 'not started' 0 -1 'the time given with --seconds is over' "$@"
    return
  fi
  begin=$EPOCHREALTIME
  local deadline=$(($(now) + limit))
  # The command runs in a session of its own.
  setsid "$@" >"$log" 2>&1 </dev/null &
  running=$!
  while kill -0 "$running" 2>/dev/null; do
    if [ "$(now)" -ge "$deadline" ]; then
      expired=yes
      { end_running; } 2>/dev/null
      break
    fi
    sleep 0.1
  done
  # The group is for bash's own remark about a command that a signal ended.
  { wait "$running"; } 2>/dev/null
  status=$?
  running=
  local seconds_taken
  seconds_taken=$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
  note=$(note_of "$log")
  case $status in
    0) result=passed ;;
    77) result=skipped ;;
    *) result=failed ;;
  esac
  [[ $status -ne 0 || $note != "0 passed"* ]] || result=skipped
  [ -z "$expired" ] || result="out of time" note="ended after $limit s"
  keep_step "$name" "$result" "$seconds_taken" "$status" "$note" "$@"
}

# Does the same with a function of these scripts as the command: a shell of its own reads them.
run_function() {  # NAME LIMIT FUNCTION ARGUMENTS...
  local name=$1 limit=$2
  shift 2
  root=$root work=$work run_step "$name" "$limit" bash -c '
    set -uo pipefail
    source "$root/tools/gpu_check/environment.sh"
    source "$root/tools/gpu_check/gpu_stages.sh"
    "$@"' bash "$@"
}

# Prints one line about a log: the counts of GoogleTest, or the last line.
note_of() {
  local passed skipped failed
  if grep -q '^\[==========\].* ran\.' "$1"; then
    passed=$(sed -nE 's/^\[  PASSED  \] ([0-9]+) tests?\..*/\1/p' "$1" | tail -1)
    skipped=$(sed -nE 's/^\[  SKIPPED \] ([0-9]+) tests?, .*/\1/p' "$1" | tail -1)
    failed=$(sed -nE 's/^\[  FAILED  \] ([0-9]+) tests?, .*/\1/p' "$1" | tail -1)
    echo "${passed:-0} passed, ${skipped:-0} skipped, ${failed:-0} failed"
  else
    grep -v '^ *$' "$1" | tail -1 | cut -c1-200
  fi
}

keep_step() {  # NAME RESULT SECONDS STATUS NOTE COMMAND...
  local name=$1 result=$2 taken=$3 status=$4 note=$5 text=null
  shift 5
  local command="$*"
  command=${command##*\"\$@\"\ bash\ }  # of run_function: the function
  case $result in
    passed) ;;
    skipped)
      skipped_steps=$((skipped_steps + 1))
      if [ -n "${may_skip:-}" ]; then note+=" ($may_skip)"; else result=failed note+=" (nothing was checked)"; fi
      ;;
  esac
  [ "$result" = passed ] || [ "$result" = skipped ] || failed_steps=$((failed_steps + 1))
  # A failed command may have left half a file. It counts only if it was judged: the functions of the stages end with 3
  # if figures are not what is wanted.
  if { [ "$result" = passed ] || [ "$status" -eq 3 ]; } && [ -s "$figures" ]; then text=$(<"$figures"); fi
  printf '    {"name": %s, "result": %s, "seconds": %s, "exit_status": %d, "note": %s, "command": %s, "figures": %s}' \
    "$(json_string "$name")" "$(json_string "$result")" "$taken" "$status" "$(json_string "$note")" \
    "$(json_string "$command")" "$text" >"${figures%.figures}.json"
  printf '| %s | %s | %s | %s |\n' "$name" "$result" "$taken" "${note//|/\\|}" >"${figures%.figures}.row"
  if [ -s "$details" ]; then
    printf '\n## %s\n\n`%s`\n\n```\n%s\n```\n' "$name" "${command//$root\//}" "$(<"$details")" \
      >"${figures%.figures}.details"
  fi
  printf '%-12s %8s s  %s: %s\n' "$result" "$taken" "$name" "$note"
  write_results
}
