#!/usr/bin/env bash
# What a graphics card can tell, in under eight minutes. From the root of the repository:
#
#     bash tests/gpu/check.sh                # on a machine with CUDA
#     DRY=1 bash tests/gpu/check.sh          # the same steps on a CPU, small
#
# It stores device, versions and times in OUT, by default book/results/gpu. It goes on
# after a failed step, and ends with an error if there was one.
set -uo pipefail
cd "$(dirname "$0")/../.."
export REGDROP_DEVICE=cuda OMP_NUM_THREADS=1
notebooks=book
patience=1
if [ -n "${DRY:-}" ]; then
  export REGDROP_DEVICE=cpu
  patience=5 # the limits are a graphics card's, and a CPU may be busy
  notebooks=book/05_which_one.ipynb
fi
out=${OUT:-book/results/gpu}
mkdir -p "$out"
failed=0

step() { # name, seconds, command
  local name=$1 limit=$(($2 * patience))
  shift 2
  printf '\n=== %s (after %s s)\n' "$name" "$SECONDS"
  timeout "$limit" "$@" || { failed=1; printf '!!! %s failed or took over %s s\n' "$name" "$limit"; }
}

step "the layers" 120 python -m pytest -q -n0 -p no:cacheprovider tests/gpu
step "times" 90 python tests/gpu/bench.py "$out/bench.json"
step "the notebooks" 240 python -m pytest -q -n4 -p no:cacheprovider \
  -m "slow or not slow" "$notebooks"
printf '\n=== done after %s s\n' "$SECONDS"
exit "$failed"
