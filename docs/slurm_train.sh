#!/bin/bash
# A training on Slurm that survives time limits and pre-emption: 90 seconds before it would be ended it writes a
# checkpoint and is queued again, and goes on there, bit for bit. Copy it, fill in the lines with <..>, and
#     sbatch slurm_train.sh
# A study needs no such file: monai-ssl study plan.yaml --output STUDY --launcher slurm.
#SBATCH --job-name=monai_ssl
#SBATCH --time=08:00:00
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --signal=SIGUSR1@90
#SBATCH --requeue
#SBATCH --open-mode=append
set -u

data=${DATA:-<folder with dataset.json>}
run=${RUN:-<folder of this run, which all nodes see>}
method=${METHOD:-mean_teacher}

bundle=$(monai-ssl path semi_segmentation)
resume=$([[ -f $run/resume.pt ]] && echo true || echo false)
srun python -m monai.bundle run --bundle_root "$bundle" \
    --config_file "['$bundle/configs/train.yaml','$bundle/configs/methods/$method.yaml']" \
    --dataset_dir "$data" --output_dir "$run" --resume "$resume" "$@"
status=$?

# 128 and the signal's number: stopped by SIGUSR1 (10), or by SIGTERM (15) where somebody with a higher priority came
if [[ $status == 138 || $status == 143 ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
