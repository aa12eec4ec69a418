"""Pictures of every hand holding several objects. `make pictures` runs it.

``python docs/gallery.py FOLDER [HAND ...]`` draws ``gallery_HAND.png``; it needs no files.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

import warpgrasp
from warpgrasp.bench_suites import suite
from warpgrasp.mesh import ObjectMesh, load_object
from warpgrasp.preview import preview

HANDS = ("shadow", "allegro", "leap", "barrett")

PRIMITIVES = ("sphere r4 cm", "can r3 h10 cm", "box 4x6x12 cm", "plate 2x8x12 cm", "ring r4 cm")

ATTEMPTS = 4
"""Grasps that are attempted of each object; the best is drawn, whatever its label."""

COLUMNS = 3


def objects() -> Iterator[ObjectMesh]:
    """A mug and five of the benchmark's primitives."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
    from mug import mug  # pyright: ignore[reportMissingImports]

    yield load_object(mug(), name="mug")
    made = {entry.name: entry for entry in suite("primitives")}
    yield from (made[name].load() for name in PRIMITIVES)


def draw(hand: str, path: Path, *, attempts: int = ATTEMPTS, iterations: int | None = None) -> None:
    """Write the best grasp of each object, side by side.

    Args:
        hand: Name of a bundled hand.
        path: PNG file to write.
        attempts: Grasps attempted of each object.
        iterations: Gradient steps; the recipe's where omitted.
    """
    tiles = []
    with tempfile.TemporaryDirectory() as folder:
        for obj in objects():
            grasps = warpgrasp.synthesize(hand, obj, count=attempts, seed=0, iterations=iterations)
            print(f"{hand}, {obj.name}: {int(grasps.valid.sum())} of {attempts} are valid", flush=True)
            tile = Path(folder) / "tile.png"
            preview(grasps, tile, count=1)
            tiles.append(Image.open(tile).convert("RGB"))
    width, height = tiles[0].size
    sheet = Image.new("RGB", (COLUMNS * width, -(-len(tiles) // COLUMNS) * height), "white")
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i % COLUMNS * width, i // COLUMNS * height))
    sheet.save(path)
    print(f"wrote {path}")


def main(folder: str = "out", *hands: str) -> None:
    """Write gallery_HAND.png to a folder for each hand."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for hand in hands or HANDS:
        draw(hand, Path(folder) / f"gallery_{hand}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
