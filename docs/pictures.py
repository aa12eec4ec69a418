"""Draw the pictures of the documentation again: `make pictures`."""

from __future__ import annotations

import runpy
import sys
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parent
EXAMPLES = DOCS.parent / "examples"


def shrink(source: Path, target: Path, width: int = 1200) -> None:
    """A copy with at most ``width`` pixels a row and 256 colours, a fraction of the size."""
    picture = Image.open(source).convert("RGB")
    if picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    palette = picture.quantize(256, kmeans=4)
    picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(target, optimize=True)
    print(f"wrote {target} ({target.stat().st_size // 1024} KB)")


def main() -> None:
    """Run the examples and the command line, and keep the pictures."""
    from warpgrasp.cli import main as warpgrasp

    sys.path.insert(0, str(EXAMPLES))
    images = DOCS / "images"
    images.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for example in sorted(EXAMPLES.glob("[0-9]*.py")):
            print(f"running {example.name}")
            runpy.run_path(str(example))["main"](folder)
        for script in ("phong.py", "paper.py", "ranges.py", "gallery.py"):
            runpy.run_path(str(DOCS / script))["main"](folder)
        warpgrasp(["validate", f"{folder}/judged.npz", "--record", f"{images}/validate.gif"])
        warpgrasp(["hands", "--inspect", "shadow", "--preview", f"{folder}/shadow.png"])
        for path in sorted(Path(folder).glob("*.png")):
            shrink(path, images / path.name)


if __name__ == "__main__":
    main()
