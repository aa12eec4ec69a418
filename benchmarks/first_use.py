"""What a newcomer waits for: the import, the first grasps with an empty kernel cache, and the next ones.

Run ``python benchmarks/first_use.py MESH``. Each figure is one process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

IMPORT = "import time; t = time.perf_counter(); import warpgrasp; print(time.perf_counter() - t, time.process_time())"
SYNTHESIZE = """
import json, sys, time
t = time.perf_counter()
import warpgrasp
grasps = warpgrasp.synthesize(sys.argv[1], sys.argv[2], count=int(sys.argv[3]), device=sys.argv[4])
print(json.dumps([time.perf_counter() - t, time.process_time(), int(grasps.valid.sum()), grasps.info]))
"""


def run(code: str, *arguments: str, **environment: str) -> str:
    """Last line that a fresh Python prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment)
    return done.stdout.strip().splitlines()[-1]


def main() -> None:
    """Measure and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", type=Path)
    parser.add_argument("--hand", default="allegro")
    parser.add_argument("--count", default=32, type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/first_use.md"))
    options = parser.parse_args()

    imports = [float(run(IMPORT).split()[0]) for _ in range(3)]
    arguments = (options.hand, str(options.mesh), str(options.count), options.device)
    with tempfile.TemporaryDirectory() as cache:
        cold = json.loads(run(SYNTHESIZE, *arguments, WARP_CACHE_PATH=cache))
        warm = [json.loads(run(SYNTHESIZE, *arguments, WARP_CACHE_PATH=cache)) for _ in range(3)]

    info = warm[0][3]
    rows = [
        ("`import warpgrasp`, median of 3", sorted(imports)[1], None),
        (f"{options.count} grasps, empty kernel cache", *cold[:2]),
        (f"{options.count} grasps, kernels compiled, median of 3", *sorted(w[:2] for w in warm)[1]),
    ]
    lines = [
        "# First use",
        "",
        f"`python benchmarks/first_use.py {options.mesh.name}`: {options.hand}, {warm[0][2]} of {options.count} valid. "
        f"Whole processes, import included; device {info['device']}, {os.cpu_count()} cores.",
        f"warpgrasp {info['warpgrasp']}, Warp {info['warp']}, Python {platform.python_version()}, {platform.machine()}",
        "",
        "| | wall [s] | core-seconds |",
        "|---|---|---|",
        *(f"| {name} | {wall:.2f} | {'' if core is None else f'{core:.1f}'} |" for name, wall, core in rows),
        "",
    ]
    options.out.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
