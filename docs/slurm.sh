#!/usr/bin/env bash
# Trains an experiment under Slurm, one task per GPU, and resumes by itself after the time limit:
#
#     sbatch docs/slurm.sh exps/mspn.4xstg.coco --set SOLVER.PRECISION=bf16
#
# Submit it from the repository, on a file system that all nodes share. All starts write to one slurm-JOB.out.
#SBATCH --job-name=mspn
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --output=slurm-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
# Two minutes before the limit, to the tasks, which are the Python processes. B:USR1 would only reach this shell.
#SBATCH --signal=USR1@120
set -euo pipefail

cd "$1"
shift

# A signal must not end this shell before it has asked for the requeue; tasks do not inherit this.
trap : TERM USR1

export MASTER_ADDR MASTER_PORT
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))

# `exec`, so that no shell gets the signal instead. No --kill-on-bad-exit: the first process to exit with 75 would have
# the others killed, and srun's code would be theirs; --wait ends those that a dead one leaves behind after a minute.
code=0
# shellcheck disable=SC2016  # a task's own variables
srun --kill-on-bad-exit=0 --wait=60 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" bash -c '
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
    exec "$@"' task "${PYTHON:-python}" train.py --resume auto "$@" || code=$?

if [ "$code" -eq 75 ]; then
    echo "stopped with a checkpoint: job $SLURM_JOB_ID goes back to the queue"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
