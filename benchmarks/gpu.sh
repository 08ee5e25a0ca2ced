#!/usr/bin/env bash
# All measurements on one GPU in at most eight minutes, and one table at the end:
#
#     benchmarks/gpu.sh                    # needs jaxseg[cuda], and PyTorch with CUDA
#     TORCH_PYTHON=OTHER_VENV/bin/python benchmarks/gpu.sh
#     benchmarks/gpu.sh --cpu              # the same steps, tiny, on the CPU: a rehearsal, without the limit
#
# Every part has a time limit; a part that fails or is late leaves a gap in the table and does not
# stop the others. All output is kept in the folder OUT (default runs/gpu). The bars: 1.5x eager
# float32, 1.1x compiled bfloat16, MFU 45 % at 4 + 4.
set -u
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
PYTHON="${PYTHON:-python}"
TORCH_PYTHON="${TORCH_PYTHON:-$PYTHON}"
OUT="${OUT:-runs/gpu}"
mkdir -p "$OUT"
rm -f "$OUT"/*.txt

part() { # part SECONDS NAME COMMAND...: runs it within the limit, output to OUT/NAME.txt
  local limit="$1" name="$2" code began=$SECONDS
  shift 2
  timeout "$limit" "$@" >"$OUT/$name.txt" 2>"$OUT/$name.err.txt"
  code=$?
  echo "$name: exit code $code after $((SECONDS - began)) s (limit $limit)"
}

step() { # step SECONDS NAME FLAGS...: the training step against PyTorch
  local limit="$1" name="$2"
  shift 2
  part "$limit" "$name" "$PYTHON" benchmarks/step.py --torch_python="$TORCH_PYTHON" "$@"
}

if [ "${1:-}" = --cpu ]; then
  small="--size=streets --batch=1 --steps=2 --threads=1"
  step 400 step_float32 $small
  step 400 step_bfloat16_compiled $small --dtype=bfloat16
  step 400 step_lite0 --size=lite0 --batch=1 --steps=1 --threads=1
  part 400 evaluation "$PYTHON" benchmarks/evaluation.py --torch_python="$TORCH_PYTHON" \
    --size=tiny --images=2 --threads=1
  part 400 sweep "$PYTHON" benchmarks/sweep.py --how=vmap --members=2 --size=32x64 --batch=1 --steps=2
else
  nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader >"$OUT/device.txt" \
    2>"$OUT/device.err.txt" || { echo "gpu.sh: no GPU (nvidia-smi failed); --cpu rehearses"; exit 2; }
  paper="--size=paper --gpu --batch=4 --steps=10"
  step 110 step_float32 $paper
  step 130 step_bfloat16_compiled $paper --dtype=bfloat16 --compile
  step 70 step_lite0 --size=lite0 --gpu --batch=8 --steps=10 --channels_last
  part 60 evaluation "$PYTHON" benchmarks/evaluation.py --torch_python="$TORCH_PYTHON" --gpu --images=8
  part 90 sweep "$PYTHON" benchmarks/sweep.py --how=vmap --members=3 --steps=10
fi
"$PYTHON" benchmarks/gpu_table.py "$OUT"
