# Sourced by tools/gpu-check: writes $out/results.json and $out/results.md from the steps in $work/steps, and the logs.

json_string() {  # TEXT: quoted
  local text=$1
  text=${text//\\/\\\\} text=${text//\"/\\\"} text=${text//$'\n'/\\n} text=${text//$'\t'/\\t}
  printf '"%s"' "${text//[$'\001'-$'\037']/}"
}

# "key": "value" lines of what is known about the machine; asked once.
describe_machine() {
  local query=name,driver_version,memory.total,power.limit,clocks.max.sm line key
  local -A machine=()
  machine[date]=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  machine[kernel]=$(uname -r)
  machine[processor]=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
  machine[cores]=$(nproc)
  machine[memory]=$(sed -n 's/^MemTotal: *//p' /proc/meminfo)
  machine[distribution]=$(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release 2>/dev/null)
  machine[doctor]=$("$root/bin/isthmus" doctor 2>&1)
  machine[gpus]=$(nvidia-smi --query-gpu="$query" --format=csv,noheader 2>/dev/null || grep '^GPU [0-9]' <<<"${machine[doctor]}")
  machine[without_gpu]=${without_gpu:-no}
  source "$root/machine"
  machine[loader]=$loader
  machine[nvidia_libraries]=$nvidia_path
  while IFS='=' read -r key line; do machine[bundle_$key]=$line; done <"$root/VERSION"
  for key in $(printf '%s\n' "${!machine[@]}" | sort); do
    printf '  %s: %s,\n' "$(json_string "$key")" "$(json_string "${machine[$key]}")"
  done
}

write_results() {
  local file separator=''
  [ -f "$work/machine" ] || describe_machine >"$work/machine"
  {
    echo '{'
    cat "$work/machine"
    echo '  "steps": ['
    for file in "$work"/steps/*.json; do
      [ -f "$file" ] || continue
      printf '%s' "$separator"
      cat "$file"
      separator=$',\n'
    done
    printf '\n  ]\n}\n'
  } >"$out/results.json.new"
  mv "$out/results.json.new" "$out/results.json"
  {
    echo "# GPU check"
    echo
    echo '```'
    sed -nE \
      's/^  "(bundle_commit|bundle_cuda|date|distribution|gpus|kernel|processor|cores|loader|without_gpu)": "(.*)",$/\1: \2/p' \
      "$work/machine"
    echo '```'
    echo
    echo '| step | result | seconds | what it said |'
    echo '|---|---|---|---|'
    cat "$work"/steps/*.row "$work"/steps/*.details 2>/dev/null
  } >"$out/results.md.new"
  mv "$out/results.md.new" "$out/results.md"
}

write_logs() { tar -C "$work" -czf "$out/logs.tar.gz" logs 2>/dev/null; }
