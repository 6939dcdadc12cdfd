# Sourced by tools/gpu-check: what runs on the GPU.
#
# Limits are several times what a step is expected to take, and small enough that a hang leaves time for the others.
bin=$root/bin
mpi_run=("$bin/mpirun" --oversubscribe --bind-to none -n)

stage_doctor() { run_step doctor 60 "$bin/isthmus" doctor; }

# Tests that find no GPU say that they were skipped: not here.
on_a_gpu() {
  "$@"
  local status=$?
  [ "$status" -ne 77 ] || { echo "skipped, though there is a GPU"; return 1; }
  return "$status"
}
stage_tests() {
  local ranks
  run_function "operators" 300 on_a_gpu "$bin/ops_tests" --device=cuda
  for ranks in 1 2 4; do
    run_step "training against the CPU, $ranks ranks on one GPU" 200 env OMP_NUM_THREADS=1 "${mpi_run[@]}" "$ranks" \
      "$bin/model_mpi_tests" '--gtest_filter=CudaModelTest.*:CudaGraphTest.*'
  done
  for ranks in 1 2; do
    run_step "NCCL, $ranks ranks" 120 "${mpi_run[@]}" "$ranks" "$bin/parallel_mpi_tests" '--gtest_filter=Nccl.*'
  done
  run_step "the program on the GPU" 300 "$bin/launch_tests" \
    '--gtest_filter=CudaRun.*:CudaMatmulSearch.*:Device.*:Doctor.*'
}

# isthmus train with the 2B model on the bundle's tokens: NAME STEPS and more arguments. 16 sequences of 4096 tokens.
train_2b() {
  local name=$1 steps=$2
  shift 2
  "$bin/isthmus" train --config "$root/configs/2b-full.textproto" --set folder="$work/$name" --set device=CUDA \
    --set data.train="$root/data/tokens/train" --set data.validation="$root/data/tokens/validation" \
    --set data.tokenizer="$root/data/tokenizer.model" --set batch.sequences=16 --set batch.micro_batch=4 \
    --set schedule.steps="$steps" --set schedule.warmup_steps=2 --set telemetry.validation_batches=1 \
    --set checkpoint.interval=0 --progress plain "$@"
}

# Twice what is given but for the folder: every figure of the metrics that does not measure time must be the same text,
# and every byte of the weights and the optimizer's state, unless the run is told to save none. The second run multiplies
# with the algorithms that the first one has found.
twice() {  # COMMAND NAME ARGUMENTS...
  local run
  for run in first second; do
    mkdir -p "$work/$run"
    if [ -e "$work/algorithms.json" ]; then cp "$work/algorithms.json" "$work/$run/matmul-algorithms.json"; fi
    "$1" "$run" "${@:2}" || return
    grep -oE '"(step|train/loss|train/gradient_norm|validation/loss|head/[a-z_]+)":[^,}]*' "$work/$run/metrics.jsonl" \
      >"$work/$run.figures"
    find "$work/$run" -name '*.tensors' -printf '%P\n' | sort | (cd "$work/$run" && xargs -r sha256sum) >"$work/$run.sums"
    if [ -e "$work/$run/matmul-algorithms.json" ]; then mv "$work/$run/matmul-algorithms.json" "$work/algorithms.json"; fi
    rm -r "${work:?}/$run"
  done
  rm -f "$work/algorithms.json"
  # Nothing agrees with nothing.
  [ "$(grep -c train/loss "$work/first.figures")" -ge 5 ] || { echo "no figures to compare"; return 1; }
  [[ "$*" = *checkpoint.save_final=false* ]] || [ -s "$work/first.sums" ] || { echo "no tensors to compare"; return 1; }
  diff "$work/first.figures" "$work/second.figures" && diff "$work/first.sums" "$work/second.sums" &&
    echo "$(wc -l <"$work/first.figures") figures and $(wc -l <"$work/first.sums") files of tensors agree bit for bit"
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
  run_function "the 2B model twice gives the same bits" 300 twice train_2b 5 --set telemetry.interval=5 \
    --set checkpoint.save_final=false
}

# Google Benchmark's table as text, and its figures.
bench_kernels() {
  "$bin/$1" --device=cuda --benchmark_counters_tabular=true --benchmark_out="$figures" \
    --benchmark_out_format=json | tee "$details" || return
  cp "$figures" "$work/$1.json"
  ! grep -q 'ERROR OCCURRED' "$details"
}
# The kernels of loss and head reach 80 % of what bounds them, memory or matrix products, as the benchmarks measured it.
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

# Speed of a run end to end, with data, optimizer, logging and telemetry, over 20 steps that do not validate, after the
# warm-up and the first measurement, which prepares what later ones use: wall-clock time from the end of step 13 to the
# end of step 33 of 34. Beside it the mean of those of them that measure the head, of those that don't, and of the phase
# `telemetry` of the former. As JSON, from metrics.jsonl.
speed_of() {  # METRICS INTERVAL
  awk -v interval="$2" '
    function value(key,   at, rest) {
      at = index($0, "\"" key "\":")
      if (at == 0) return ""
      rest = substr($0, at + length(key) + 3)
      sub(/[,}].*/, "", rest)
      return rest + 0  # a number: texts would be compared as texts
    }
    value("step") == 0 { peak = value("run/peak_flops"); flops = value("run/causal_flops_per_token") }
    value("step") == 13 { begin = value("elapsed_seconds"); first = value("tokens") }
    value("step") == 33 { end = value("elapsed_seconds"); last = value("tokens"); loss = value("train/loss") }
    value("step") > 13 && value("step") <= 33 {
      telemetry = value("time/telemetry_seconds")
      kind = telemetry > 0 ? "measured" : "plain"
      ++count[kind]
      seconds[kind] += value("train/step_seconds")
      measuring += telemetry
    }
    function mean(sum, kind) { return count[kind] > 0 ? sprintf("%.6f", sum / count[kind]) : "null" }
    END {
      if (end <= begin) { print "no figures" > "/dev/stderr"; exit 1 }
      rate = (last - first) / (end - begin)
      printf "{\"telemetry_interval\": %d, \"steps\": 20, \"step_seconds\": %.6f, \"tokens_per_second\": %.1f, " \
        "\"causal_flops_per_token\": %.0f, \"causal_utilisation_ratio\": %s, \"loss\": %.6f, " \
        "\"plain_step_seconds\": %s, \"measured_step_seconds\": %s, \"telemetry_seconds\": %s}",
        interval, (end - begin) / 20, rate, flops, (peak > 0 ? rate * flops / peak : "null"), loss,
        mean(seconds["plain"], "plain"), mean(seconds["measured"], "measured"), mean(measuring, "measured")
    }' "$1"
}
train_speed() {  # INTERVAL: steps between head measurements; 0: never
  train_2b "speed-$1" 34 --set telemetry.interval="$1" --set checkpoint.save_final=false || return
  if grep -h "attention runs on the project's own kernel" "$work/speed-$1"/log/*.log; then return 1; fi
  speed_of "$work/speed-$1/metrics.jsonl" "$1" >"$figures" || return
  cp "$figures" "$work/speed-$1.json"
  sed 's/[{}"]//g' "$figures" | tee "$details"
  rm -r "${work:?}/speed-$1"
}

# What measuring the head every so many steps costs, of the time of a step without.
train_overhead() {  # INTERVAL
  awk -v interval="$1" '{ sub(/.*"step_seconds": /, ""); sub(/,.*/, ""); seconds[NR] = $0 }
    END { if (NR < 2) exit 1
      printf "{\"telemetry_interval\": %d, \"added_ratio\": %.5f}", interval, seconds[2] / seconds[1] - 1
    }' <(cat "$work"/speed-{0,"$1"}.json | sed 's/}{/}\n{/g') >"$figures" || return
  sed 's/[{}"]//g' "$figures" | tee "$details"
}
stage_train() { run_function "2B end to end, head never measured" 200 train_speed 0; }

# Whole steps as large as the configuration's, 256 sequences, and what measuring the head adds to one.
bench_telemetry() {
  "$bin/training_bench" --device cuda --model 2b --sequences 256 --steps 1 --json "$figures" | tee "$details"
}
stage_telemetry() { run_function "whole steps of the 2B model, and measuring its head" 240 bench_telemetry; }
# End to end with the 16 sequences of stage `train`, which has to have run: a measured step costs the more, the shorter a
# step is.
stage_measured() {
  run_function "2B end to end, head measured every 10 steps" 200 train_speed 10
  run_function "cost of measuring the head every 10 steps" 10 train_overhead 10
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
}
stage_compare() { run_function "the 2B model in PyTorch" 400 compare_pytorch; }

find_sanitizer() {
  local place
  for place in "$(command -v compute-sanitizer)" /usr/local/cuda*/bin/compute-sanitizer \
    /usr/local/cuda*/compute-sanitizer/compute-sanitizer /opt/nvidia/*/*/compute-sanitizer; do
    [ -x "$place" ] && { echo "$place"; return; }
  done
  return 1
}
# The project's own kernels; products are the libraries', and so is most of attention: racecheck does not understand the
# barriers of cuDNN's kernels, which it finds hundreds of hazards in, and synccheck breaks them. Where the tool can't be
# told to leave them alone, attention is left out and said to be. A tool that can't look at the device at all says nothing
# of errors: its summary has to be there.
sanitize() {  # SANITIZER TOOL
  local log=$work/sanitizer-$2.log only=() option left_out='Matmul*:Gram.*:Fp8*'
  for option in --kernel-name --kernel-regex ''; do
    if [ -z "$option" ]; then
      left_out=$left_out:Attention.*
      echo "attention is left out: the tool takes no names of kernels" >>"$details"
    elif "$1" "$option" kns=isthmus "$bin/ops_tests" --device=cuda --gtest_filter=Split.* >"$log" 2>&1; then
      only=("$option" kns=isthmus)
      break
    fi
  done
  "$1" --tool "$2" "${only[@]}" --target-processes all --error-exitcode 9 "$bin/ops_tests" --device=cuda \
    "--gtest_filter=-$left_out" 2>&1 | tee "$log"
  local status=${PIPESTATUS[0]}
  [ "$status" -eq 0 ] || return "$status"
  grep -E '^=+ (ERROR|RACECHECK) SUMMARY: 0 (errors|hazards)' "$log" | tail -1 | tee -a "$details" | grep -q .
}
stage_sanitizer() {
  local sanitizer tool
  sanitizer=$(find_sanitizer) || {
    run_function "compute-sanitizer" 5 eval 'echo "compute-sanitizer not found; it comes with the CUDA Toolkit"; exit 77'
    return
  }
  for tool in memcheck racecheck synccheck initcheck; do
    run_function "$tool" 300 sanitize "$sanitizer" "$tool"
  done
}
