"""Run CoACD in a process of its own: ``python -m warpgrasp.physics.cut MESH.npz PIECES.npz``."""

from __future__ import annotations

import sys

import numpy as np

from .object_model import save_pieces


def main() -> None:
    """Read vertices, faces, threshold and way of preprocessing; write the corners of the pieces."""
    import coacd

    coacd.set_log_level("off")
    with np.load(sys.argv[1], allow_pickle=False) as mesh:
        parts = coacd.run_coacd(
            coacd.Mesh(mesh["vertices"], mesh["faces"]),
            threshold=float(mesh["threshold"]),
            preprocess_mode=str(mesh["preprocess"]),
            seed=0,
        )
    if not parts:
        sys.exit("it found no piece")
    save_pieces(sys.argv[2], tuple(np.asarray(vertices, float) for vertices, _ in parts))


if __name__ == "__main__":
    main()
