#!/usr/bin/env bash
# Peer learning on class folders in two stages: the heads first, then everything.
#
# Set the values below, or give any of them in the environment:  BATCH_SIZE=32 tools/run_training.sh
# Further arguments go to both stages:                            tools/run_training.sh --device cpu --workers 0
# Started again it goes on where it stopped, at the stage and within it; another NAME starts anew.
set -euo pipefail

# ---------------------------------------------------------------- yours
export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES-0}"         # empty: no GPU
DATA_PATH="${DATA_PATH:-data}"                                  # holds train/<class>/ and val/<class>/ or test/<class>/
NUM_CLASSES="${NUM_CLASSES:-200}"                               # compared with the folders before anything is trained
NET1_ARCH="${NET1_ARCH:-convnext_tiny}"
NET2_ARCH="${NET2_ARCH:-swin_tiny_patch4_window7_224}"
BATCH_SIZE="${BATCH_SIZE:-64}"
EPOCHS="${EPOCHS:-100}"                                         # of stage 2
BASE_LR="${BASE_LR:-1e-4}"                                      # of stage 2
# ---------------------------------------------------------------- rarely changed
STAGE1_EPOCHS="${STAGE1_EPOCHS:-20}"
STAGE1_LR="${STAGE1_LR:-1e-3}"
OUT="${OUT:-runs}"
NAME="${NAME:-peer}"
PYTHON="${PYTHON:-python}"
PROJECT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CONFIG="${CONFIG:-$PROJECT/tools/configs/peer_two_stage.toml}"
# ----------------------------------------------------------------

fail() {
    printf 'run_training.sh: %s\n' "$2" >&2
    exit "$1"
}

"$PYTHON" -c 'import reid_core, torch, timm' 2>/dev/null || fail 2 "$PYTHON does not find the package reid_core. Install it with:
  $PYTHON -m pip install torch torchvision
  $PYTHON -m pip install --no-build-isolation $PROJECT"

train_folder=""
for folder in train train_split; do
    if [ -d "$DATA_PATH/$folder" ]; then
        train_folder="$DATA_PATH/$folder"
        break
    fi
done
[ -n "$train_folder" ] || fail 3 "$DATA_PATH holds neither train/ nor train_split/; set DATA_PATH to the folder that holds one"
found=$(find -L "$train_folder" -mindepth 1 -maxdepth 1 -type d ! -name '.*' | wc -l)
[ "$found" -eq "$NUM_CLASSES" ] ||
    fail 3 "NUM_CLASSES is $NUM_CLASSES, but $train_folder has $found class folders; correct the one that is wrong"

# stage NAME FLAGS...: trains the run NAME, or goes on with it.
stage() {
    local run="$OUT/$1"
    shift
    if [ -d "$run" ]; then
        printf 'run_training.sh: %s is there already and goes on with the settings it was begun with\n' "$run" >&2
        "$PYTHON" -m reid_core train --resume "$run"
        return
    fi
    "$PYTHON" -m reid_core train --config "$CONFIG" --data_dir "$DATA_PATH" --arch "$NET1_ARCH" "$NET2_ARCH" \
        --batchsize "$BATCH_SIZE" --epochs "$EPOCHS" --lr "$BASE_LR" --stage1_epochs "$STAGE1_EPOCHS" \
        --stage1_lr "$STAGE1_LR" --out "$OUT" --name "${run##*/}" "$@"
}

stage "$NAME-stage1" --stage1 "$@"
checkpoint="$OUT/$NAME-stage1/checkpoints/phase_0.safetensors"
[ -s "$checkpoint" ] || fail 4 "stage 1 ended without $checkpoint, which stage 2 starts from"
stage "$NAME-stage2" --stage2 --from_self "$checkpoint" "$@"
