# Sourced by tools/gpu-check with --without-gpu: shows that the bundle's programs, tests and mpirun work on this
# machine.

stage_doctor() { run_step doctor 60 "$root/bin/isthmus" doctor; }

stage_tests() {
  export OMP_NUM_THREADS=2
  run_step "kernels on the CPU" 300 "$root/bin/ops_tests" '--gtest_filter=CrossEntropy*:RmsNorm*:Swiglu*:AdamW*'
  run_step "model against PyTorch's golden values" 300 "$root/bin/model_tests" '--gtest_filter=*Golden*'
  run_step "collectives, 2 ranks" 120 "$root/bin/mpirun" --oversubscribe --bind-to none -n 2 \
    "$root/bin/parallel_mpi_tests" '--gtest_filter=Communicator.*'
  run_step "the program, alone and under mpirun" 300 "$root/bin/launch_tests" \
    '--gtest_filter=Train.LearnsOnTwoRanks*:Doctor.*:Device.*'
}

stage_train() {
  export OMP_NUM_THREADS=1
  run_step "train, 2 ranks" 300 "$root/bin/mpirun" --oversubscribe --bind-to none -n 2 "$root/bin/isthmus" train \
    --config "$root/configs/quickstart.textproto" --set folder="$work/train" --set device=CPU --set mesh.tensor=2 \
    --set data.train="$root/data/tokens/train" --set data.validation="$root/data/tokens/validation" \
    --set data.tokenizer="$root/data/tokenizer.model" --set schedule.steps=4 --set schedule.warmup_steps=1 \
    --set batch.sequences=4 --set telemetry.interval=2
}
