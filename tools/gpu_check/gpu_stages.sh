# Sourced by tools/gpu-check: the stages that run on the GPU.
#
# Limits are several times what a step is expected to take, and small enough that a hang leaves time for the others.
bin=$root/bin
mpi_run=("$bin/mpirun" --oversubscribe --bind-to none -n)

gpu_count() { "$bin/isthmus" doctor | grep -c '^GPU [0-9]'; }

stage_doctor() { run_step doctor 60 "$bin/isthmus" doctor; }

stage_tests() {
  local ranks gpus may_skip='' first=${CUDA_VISIBLE_DEVICES:-0}
  gpus=$(gpu_count)
  run_step "operators" 300 "$bin/ops_tests" --device=cuda
  # All ranks use one GPU, however many there are: they meet by way of the host.
  for ranks in 1 2 4; do
    run_step "training against the CPU, $ranks ranks on one GPU" 200 env OMP_NUM_THREADS=1 \
      CUDA_VISIBLE_DEVICES="${first%%,*}" "${mpi_run[@]}" "$ranks" "$bin/model_mpi_tests" '--gtest_filter=CudaModelTest.*:CudaGraphTest.*'
  done
  for ranks in 1 2 4; do
    [ "$ranks" -le "$gpus" ] || may_skip="there are $gpus GPUs"
    run_step "NCCL, $ranks ranks" 120 "${mpi_run[@]}" "$ranks" "$bin/parallel_mpi_tests" '--gtest_filter=Nccl.*'
    may_skip=
  done
  run_step "the program trains on the GPU" 300 "$bin/launch_tests" '--gtest_filter=CudaRun.*:CudaMatmulSearch.*'
  run_step "the program finds the GPU" 60 "$bin/launch_tests" '--gtest_filter=Device.*:Doctor.*'
}

# Runs isthmus train with the 2B model on the bundle's tokens: NAME STEPS and more arguments. A step has 16 sequences of
# 4096 tokens.
train_2b() {
  local name=$1 steps=$2
  shift 2
  "$bin/isthmus" train --config "$root/configs/2b.textproto" --set folder="$work/$name" --set device=CUDA \
    --set data.train="$root/data/tokens/train" --set data.validation="$root/data/tokens/validation" \
    --set data.tokenizer="$root/data/tokenizer.model" --set batch.sequences=16 --set batch.micro_batch=4 \
    --set schedule.steps="$steps" --set schedule.warmup_steps=2 --set telemetry.validation_batches=1 \
    --set checkpoint.interval=0 --progress plain "$@"
}

# Prints the metrics that must be the same in every run, one line per record: all but those that follow from the clock.
figures_of() {  # METRICS
  sed -E '/"step":0,/d
    s/"time\/phases":\[[^]]*\],?//g
    s/"[^"]*seconds[^"]*":\{[^}]*\},?//g
    s/"[^"]*(seconds|per_second|utilisation_ratio)":[^][{},]*,?//g' "$1"
}

# Runs the given command twice, with another folder. All figures of the metrics that don't measure time must be the same
# texts. Every byte of the weights and the optimizer's state must agree, unless the run is told to save none. The second
# run multiplies with the algorithms that the first one has found.
twice() {  # COMMAND NAME ARGUMENTS...
  local run folder
  rm -rf "${work:?}/$1".{first,second}* "$work/$1-algorithms.json"
  for run in first second; do
    folder=$work/$1.$run
    mkdir -p "$folder"
    if [ -e "$work/$1-algorithms.json" ]; then cp "$work/$1-algorithms.json" "$folder/matmul-algorithms.json"; fi
    "$1" "$1.$run" "${@:2}" || return
    figures_of "$folder/metrics.jsonl" >"$folder.figures"
    find "$folder" -name '*.tensors' -printf '%P\n' | sort | (cd "$folder" && xargs -r sha256sum) >"$folder.sums"
    if [ -e "$folder/matmul-algorithms.json" ]; then mv "$folder/matmul-algorithms.json" "$work/$1-algorithms.json"; fi
    rm -r "$folder"
  done
  local first=$work/$1.first second=$work/$1.second
  # Two empty files would agree.
  [ "$(grep -c train/loss "$first.figures")" -ge 5 ] || { echo "no figures to compare"; return 1; }
  grep -q '"head/buckets":\[' "$first.figures" || { echo "no figures of the head to compare"; return 1; }
  [[ "$*" = *checkpoint.save_final=false* ]] || [ -s "$first.sums" ] || { echo "no tensors to compare"; return 1; }
  diff "$first.figures" "$second.figures" && diff "$first.sums" "$second.sums" &&
    echo "$(grep -o '":' "$first.figures" | wc -l) figures and $(wc -l <"$first.sums") files of tensors agree bit for bit"
}
train_small() {  # the schedule without its clock
  "$bin/isthmus" train --config "$root/configs/quickstart.textproto" --set folder="$work/$1" --set device=CUDA \
    --set mesh.tensor=1 --set precision.compute=BF16 --set data.train="$root/data/tokens/train" \
    --set data.validation="$root/data/tokens/validation" --set data.tokenizer="$root/data/tokenizer.model" \
    --set schedule.steps=50 --set schedule.warmup_steps=10 --set schedule.max_seconds=0 \
    --progress plain
}
stage_repeat() {
  run_function "a small model twice gives the same bits" 120 twice train_small
  # The sixth step's loss shows what the fifth has made of the weights.
  run_function "the 2B model twice gives the same bits" 300 twice train_2b 6 --set telemetry.interval=5 \
    --set checkpoint.save_final=false
}

# Runs a benchmark. It keeps Google Benchmark's table as text, and its figures.
bench_kernels() {
  "$bin/$1" --device=cuda --benchmark_counters_tabular=true --benchmark_out="$figures" \
    --benchmark_out_format=json | tee "$details" || return
  cp "$figures" "$work/$1.json"
  ! grep -q 'ERROR OCCURRED' "$details"
}
# The kernels of loss and head reach 80 % of their bound, memory or matrix products, as the benchmarks measured it.
check_head_kernels() {
  awk -v least=0.8 '
    /"name":/ { name = $0; sub(/.*"name": "/, "", name); sub(/\/(iterations|manual_time).*/, "", name) }
    /"of_(triad|peak)":/ && name ~ /^(cross_entropy_(statistics\/fp32|gradient\/bf16)|head\/.*\/bf16)$/ {
      what = $1; ratio = $2; gsub(/[":,]/, "", what); gsub(/,/, "", ratio)
      printf "%-36s %.3f %s\n", name, ratio, what
      list = list (list == "" ? "" : ", ") "\"" name "\": " ratio + 0
      ++count
      if (ratio + 0 < least) low = low " " name
    }
    END {
      printf "{%s}", list >"/dev/stderr"
      if (count != 5) { print "expected 5 kernels, found " count; exit 1 }
      if (low != "") { print "below " least ":" low; exit 1 }
      print "all 5 kernels reach " least
    }' "$work"/{kernels,products}_bench.json 2>"$figures" | tee "$details"
}
stage_bench() {
  run_function "kernels that memory limits" 240 bench_kernels kernels_bench
  run_function "products and attention" 240 bench_kernels products_bench
  run_function "loss and head kernels reach 80 % of their bound" 10 check_head_kernels
}

# Prints the speed of a run end to end, with data, optimizer, logging and telemetry, as JSON from metrics.jsonl. It is
# the wall-clock time from the end of step 13 to the end of step 33 of 34. These 20 steps do not validate. They come
# after the warm-up and the first measurement, which prepares what later ones use. Beside it stands the mean of the
# steps that measure the head and of those that don't. The mean of the phase `telemetry` of the former comes last. It
# fails if the run is not what was asked for.
speed_of() {  # METRICS INTERVAL
  awk -v interval="$2" '
    function text(key,   at, rest) {
      at = index($0, "\"" key "\":")
      if (at == 0) return ""
      rest = substr($0, at + length(key) + 3)
      sub(/[,}].*/, "", rest)
      return rest
    }
    function value(key) { return text(key) + 0 }  # a number: texts would be compared as texts
    function mean(sum, kind) { return count[kind] > 0 ? sprintf("%.6f", sum / count[kind]) : "null" }
    value("step") == 0 {
      peak = value("run/peak_flops"); flops = value("run/causal_flops_per_token"); device = text("run/device")
    }
    value("step") == 13 { begin = value("elapsed_seconds"); first = value("tokens") }
    value("step") == 33 { end = value("elapsed_seconds"); last = value("tokens"); loss = value("train/loss") }
    value("step") > 13 && value("step") <= 33 {
      telemetry = value("time/telemetry_seconds")
      kind = telemetry > 0 ? "measured" : "plain"
      ++count[kind]
      seconds[kind] += value("train/step_seconds")
      measuring += telemetry
    }
    END {
      measured = interval > 0 ? 20 / interval : 0
      if (count["measured"] + 0 != measured || count["plain"] + 0 != 20 - measured || end <= begin || loss <= 0) {
        print "expected 20 steps with a loss, " measured " of them measured; found " count["plain"] + 0 " plain and " \
          count["measured"] + 0 " measured ones in " end - begin " s, loss " loss > "/dev/stderr"
        exit 1
      }
      rate = (last - first) / (end - begin)
      printf "{\"device\": %s, \"telemetry_interval\": %d, \"steps\": 20, \"step_seconds\": %.6f, " \
        "\"tokens_per_second\": %.1f, \"causal_flops_per_token\": %.0f, \"causal_utilisation_ratio\": %s, " \
        "\"loss\": %.6f, \"plain_step_seconds\": %s, \"measured_step_seconds\": %s, \"telemetry_seconds\": %s}",
        (device == "" ? "null" : device), interval, (end - begin) / 20, rate, flops,
        (peak > 0 ? rate * flops / peak : "null"), loss,
        mean(seconds["plain"], "plain"), mean(seconds["measured"], "measured"), mean(measuring, "measured")
    }' "$1"
}
figure_of() { sed -nE "s/.*\"$2\": ([^,}]*).*/\1/p" "$1"; }  # FILE KEY

# Judges a figure: `judge NAME FIGURE at-least|at-most LIMIT` prints whether it is met, and ends with 3 if it is not.
judge() {
  awk -v name="$1" -v figure="$2" -v relation="$3" -v limit="$4" 'BEGIN {
    met = figure ~ /^-?[0-9.]+(e-?[0-9]+)?$/ && (relation == "at-least" ? figure + 0 >= limit : figure + 0 <= limit)
    print name ": " figure ", " relation " " limit " wanted: " (met ? "met" : "NOT MET")
    exit met ? 0 : 3
  }' | tee -a "$details"
}

# Every run after the first takes its algorithms, so that two runs differ only in what they are told.
train_speed() {  # INTERVAL: steps between head measurements; 0: never
  local folder=$work/speed-$1
  rm -rf "$folder"
  mkdir -p "$folder"
  if [ "$1" -ne 0 ]; then cp "$work/speed-algorithms.json" "$folder/matmul-algorithms.json" || return; fi
  train_2b "speed-$1" 34 --set telemetry.interval="$1" --set checkpoint.save_final=false || return
  if grep -h "attention runs on the project's own kernel" "$folder"/log/*.log; then return 1; fi
  speed_of "$folder/metrics.jsonl" "$1" >"$figures" || return
  cp "$figures" "$work/speed-$1.json"
  if [ "$1" -eq 0 ]; then cp "$folder/matmul-algorithms.json" "$work/speed-algorithms.json" || return; fi
  rm -r "$folder"
  sed 's/[{}"]//g' "$figures" | tee "$details"
}
# Issue and paper count against the data-sheet rate of an H100 or an H200.
train_utilisation() {
  train_speed 0 || return
  if grep -qE '"device": "[^"]*(H100|H200)' "$figures"; then
    judge "of 989.5 TFLOP/s" "$(figure_of "$figures" causal_utilisation_ratio)" at-least 0.58
  else
    echo "not judged on this device" | tee -a "$details"
  fi
}
stage_train() { run_function "2B end to end, head never measured" 200 train_utilisation; }

# Prints what measuring the head every so many steps adds, as a share of the time of a step without. It compares with
# the other steps of the same run, and with the run that measures none. The latter also shows the cost of finding
# singular values beside the steps. It is no better than the 0.8 % by which two runs of an H200 have differed.
train_overhead() {  # INTERVAL [LIMIT]
  awk -v interval="$1" -v plain="$(figure_of "$work/speed-0.json" step_seconds)" \
    -v step="$(figure_of "$work/speed-$1.json" step_seconds)" \
    -v same="$(figure_of "$work/speed-$1.json" plain_step_seconds)" \
    -v measured="$(figure_of "$work/speed-$1.json" measured_step_seconds)" 'BEGIN {
      if (plain + 0 <= 0 || step + 0 <= 0 || measured + 0 <= 0) exit 1
      printf "{\"telemetry_interval\": %d, \"added_ratio\": %.5f, \"added_ratio_within_run\": %s}", interval,
        step / plain - 1, (same + 0 > 0 ? sprintf("%.5f", (measured / same - 1) / interval) : "null")
    }' >"$figures" || return
  sed 's/[{}"]//g' "$figures" | tee "$details"
  [ -n "${2:-}" ] || return 0
  local status=0
  judge "added within the run" "$(figure_of "$figures" added_ratio_within_run)" at-most "$2" || status=3
  judge "added to another run" "$(figure_of "$figures" added_ratio)" at-most \
    "$(awk -v limit="$2" 'BEGIN { print limit + 0.008 }')" || status=3
  return "$status"
}

# Runs whole steps as large as the configuration's, 256 sequences, and judges what measuring the head adds to one.
bench_telemetry() {
  "$bin/training_bench" --device cuda --model 2b --sequences 256 --steps 2 --json "$figures" | tee "$details" || return
  local status=0
  judge "every step, added" "$(figure_of "$figures" every_step_adds_ratio)" at-most 0.05 || status=3
  judge "every 10 steps, added" "$(figure_of "$figures" every_10_steps_add_ratio)" at-most 0.01 || status=3
  return "$status"
}
stage_telemetry() { run_function "whole steps of the 2B model, and measuring its head" 300 bench_telemetry; }
# Runs end to end with the 16 sequences of stage `train`. A measured step costs the more, the shorter a step is. The
# limit for measuring every step holds for the configuration's steps (stage `telemetry`).
stage_measured() {
  [ -e "$work/speed-0.json" ] || stage_train
  [ -e "$work/speed-0.json" ] || return 0
  run_function "2B end to end, head measured every 10 steps" 200 train_speed 10
  run_function "cost of measuring the head every 10 steps" 10 train_overhead 10 0.01
  run_function "2B end to end, head measured every step" 200 train_speed 1
  run_function "cost of measuring the head every step" 10 train_overhead 1
}

compare_pytorch() {
  if ! python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    echo "python3 has no torch that sees a GPU"
    return 77
  fi
  python3 "$root/tools/compare/pytorch_step.py" --device cuda --shape 2b --dtype bf16 --sequences 16 --micro-batch 4 \
    --warmup 3 --steps 20 >"$figures" || return
  grep -oE '"(torch|compiled|micro_batch|step_seconds|tokens_per_second|gflops_per_second)": [^,}]*' "$figures" |
    tee "$details"
  if [ -e "$work/speed-0.json" ]; then
    awk -v own="$(figure_of "$work/speed-0.json" tokens_per_second)" -v torch="$(figure_of "$figures" tokens_per_second)" \
      'BEGIN { printf "isthmus in micro-batches of 4: %.1f tokens/s, %.3f of it\n", own, own / torch }' | tee -a "$details"
  fi
}
stage_compare() {
  local may_skip="PyTorch is not the project's to bring"
  run_function "the 2B model in PyTorch" 400 compare_pytorch
}

find_sanitizer() {
  local place
  for place in "$(command -v compute-sanitizer)" /usr/local/cuda*/bin/compute-sanitizer \
    /usr/local/cuda*/compute-sanitizer/compute-sanitizer /opt/nvidia/*/*/compute-sanitizer; do
    [ -x "$place" ] && { echo "$place"; return; }
  done
  return 1
}
# The sanitizer looks at the project's own kernels. Products are the libraries', and so is most of attention. racecheck
# does not understand the barriers of cuDNN's kernels, and finds hundreds of hazards in them; synccheck breaks them. If
# the tool can't be told to leave them alone, attention is left out and said to be. A tool that looks at nothing finds
# nothing. With the same options memcheck therefore has to see a kernel that reads beyond its memory.
sanitizer_sees() {  # SANITIZER
  local option only log=$work/sanitizer-control.log
  for option in --kernel-name --kernel-regex ''; do
    only=${option:+"$option kns=isthmus"}
    # shellcheck disable=SC2086  # two words or none
    # The test itself fails too, as its stream does.
    ISTHMUS_SANITIZER_CONTROL=yes "$1" --tool memcheck $only --target-processes all --error-exitcode 9 \
      "$bin/ops_tests" --device=cuda --gtest_filter='SanitizerControl.*' >"$log" 2>&1 && continue
    grep -qE '^=+ Invalid __global__ read' "$log" || continue
    echo "$only" >"$work/sanitizer-only"
    echo "looks at ${only:-every kernel}"
    grep -E '^=+ ERROR SUMMARY' "$log" | tail -1 | tee "$details"
    return
  done
  tail -20 "$log"
  return 1
}
# A tool that can't look at the device at all says nothing of errors, so its summary has to be there.
sanitize() {  # SANITIZER TOOL
  local log=$work/sanitizer-$2.log only left_out='Matmul*:Gram.*:Fp8*' status
  read -ra only <"$work/sanitizer-only" || return
  if [ ${#only[@]} -eq 0 ]; then
    left_out=$left_out:Attention.*
    echo "attention is left out: the tool takes no names of kernels" >>"$details"
  fi
  "$1" --tool "$2" "${only[@]}" --target-processes all --error-exitcode 9 "$bin/ops_tests" --device=cuda \
    "--gtest_filter=-$left_out" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  [ "$status" -eq 0 ] || return "$status"
  grep -E '^=+ (ERROR|RACECHECK) SUMMARY: 0 (errors|hazards)' "$log" | tail -1 | tee -a "$details" | grep -q .
}
stage_sanitizer() {
  local sanitizer tool
  sanitizer=$(find_sanitizer) || {
    run_function "compute-sanitizer" 5 eval 'echo "compute-sanitizer not found; it comes with the CUDA Toolkit"; exit 77'
    return
  }
  run_function "memcheck finds a kernel that reads beyond its memory" 120 sanitizer_sees "$sanitizer"
  for tool in memcheck racecheck synccheck initcheck; do
    run_function "$tool" 300 sanitize "$sanitizer" "$tool"
  done
}
