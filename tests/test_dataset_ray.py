"""The Ray executor makes the same dataset as the others, also when a node is lost and another comes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dataset_runs import content, simulate, write_config

from warpgrasp import dataset

SCRIPT = """
import sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from dataset_runs import MAKER
from warpgrasp import dataset

config, out, nodes, lost = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
# A node that does not answer is given up sooner than by default.
health = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_failure_threshold": 3}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": health})
workers = [cluster.add_node(num_cpus=1) for _ in range(nodes)]
ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)

reports = []
run = threading.Thread(daemon=True, target=lambda: reports.append(dataset.generate(
    config, out, executor="ray", workers=nodes, maker=MAKER, device="cpu", gallery=0, recycle=int(sys.argv[5])
)))
run.start()
for _ in range(lost):
    before = len(list(out.glob("shards/*")))
    while run.is_alive() and len(list(out.glob("shards/*"))) < before + 3:
        time.sleep(0.01)
    assert run.is_alive(), "there was nothing left to lose"
    cluster.remove_node(workers.pop(0), allow_graceful=False)
    workers.append(cluster.add_node(num_cpus=1))
run.join()
print("made", reports[0].made, "failed", reports[0].failed, "lost", lost, *reports[0].failures.values())
ray.shutdown()
cluster.shutdown()
"""


def run_on_ray(config: Path, out: Path, *, nodes: int, lost: int, recycle: int = 256, seconds: float = 0.0) -> str:
    """A run on a cluster of this machine, some of whose nodes are killed and replaced; returns its last line."""
    here = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": here, "WARPGRASP_TEST_SECONDS": str(seconds), "RAY_DEDUP_LOGS": "0"}
    command = [sys.executable, "-c", SCRIPT, str(config), str(out), str(nodes), str(lost), str(recycle)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_node_that_is_lost_changes_nothing(tmp_path):
    pytest.importorskip("ray", reason="needs Ray: pip install 'warpgrasp[ray]'")
    config = write_config(tmp_path, boxes=2)
    simulate(config, tmp_path / "local")
    line = run_on_ray(config, tmp_path / "ray", nodes=1, lost=1, recycle=4, seconds=0.2)
    assert line == "made 12 failed 0 lost 1"
    assert content(tmp_path / "ray") == content(tmp_path / "local")
    assert dataset.verify(tmp_path / "ray", deep=True) == []
