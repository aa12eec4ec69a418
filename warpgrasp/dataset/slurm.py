"""The script of a Slurm array whose tasks make the shards of a dataset."""

from __future__ import annotations

import shlex
from pathlib import Path

from ..files import write_atomically

SCRIPT = """#!/bin/bash
# Written by warpgrasp. Add what your cluster asks for (--partition, --account, --time), then: sbatch {script}
# Each of the {tasks} tasks makes its share of the shards and skips those that are there: submit it again at any time.
# Afterwards, the same `warpgrasp generate` without --executor makes what is still missing and writes the summary.
#SBATCH --job-name=warpgrasp
#SBATCH --array=0-{last}
#SBATCH --ntasks=1
{resources}
#SBATCH --output={log}
set -euo pipefail
exec {command} --part "${{SLURM_ARRAY_TASK_ID}}/${{SLURM_ARRAY_TASK_COUNT}}"
"""

MOST_TASKS = 256
"""Tasks of an array where their number is not given."""


def write_script(folder: Path, config: Path, *, shard_count: int, tasks: int | None, device: str | None) -> Path:
    """Write ``slurm.sh`` into a dataset's folder.

    Args:
        folder: The dataset's folder, on a file system that all nodes see.
        config: The YAML, likewise.
        shard_count: Shards to be made.
        tasks: Tasks of the array; one for each shard up to ``MOST_TASKS`` where omitted.
        device: Warp device; a task gets a GPU unless it is "cpu".

    Returns:
        The script.
    """
    count = max(1, min(tasks or MOST_TASKS, shard_count))
    script = folder.absolute() / "slurm.sh"
    command = ["warpgrasp", "generate", str(config.absolute()), "--out", str(folder.absolute()), "--quiet"]
    if device:
        command += ["--device", device]
    text = SCRIPT.format(
        script=shlex.quote(str(script)),
        tasks=count,
        last=count - 1,
        resources="#SBATCH --cpus-per-task=1" if device == "cpu" else "#SBATCH --gpus-per-task=1",
        log=folder.absolute() / "slurm-%A_%a.log",
        command=shlex.join(command),
    )
    write_atomically(script, text)
    script.chmod(0o755)
    return script
