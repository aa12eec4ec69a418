"""The command line: ``warpgrasp synthesize``, ``warpgrasp hands`` and ``warpgrasp bench``.

Nothing heavy is imported at the top, so that ``--help`` and wrong arguments are answered at once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from . import __version__
from .errors import FileFormatError, WarpgraspError

if TYPE_CHECKING:
    from .hand import Hand
    from .result import Grasps

BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 2, 130, 141

SUMMARY = {
    "penetration_depth_m": ("penetration", 1e3, "mm"),
    "links_in_contact_2mm": ("links in contact", 1.0, ""),
}
"""Metrics in the printed summary: name, factor and unit."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    try:
        options = make_parser().parse_args(arguments)
        options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone; without this Python complains once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (WarpgraspError, OSError) as error:
        print_error(str(error))
        return BAD_INPUT
    return 0


class Parser(argparse.ArgumentParser):
    """Reports an error as one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit."""
        print_error(f"{message} (see {self.prog} --help)")
        raise SystemExit(BAD_INPUT)


def print_error(message: str) -> None:
    """One line on stderr, whatever is in the message."""
    print(f"warpgrasp: error: {' '.join(message.split())}", file=sys.stderr)


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = Parser(prog="warpgrasp", description="Find grasps of an object for a robot hand with many fingers.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    add_synthesize(
        commands.add_parser("synthesize", help="find grasps of a mesh", description="Find grasps of a mesh.")
    )
    add_hands(
        commands.add_parser(
            "hands",
            help="list the bundled hands, or show what is known of one",
            description="List the bundled hands, or show what was read and inferred for one hand.",
        )
    )
    add_bench(
        commands.add_parser(
            "bench",
            help="measure recipes on many objects and hands",
            description="Find grasps with every recipe, hand and object of a suite, and judge them all alike. "
            "A run that was stopped goes on where it was.",
        )
    )
    return parser


def add_synthesize(parser: argparse.ArgumentParser) -> None:
    """Options of ``warpgrasp synthesize``."""
    add = parser.add_argument
    add("hand", metavar="HAND", help="name of a bundled hand, or the path of a .urdf or .xml (MJCF) file")
    add("mesh", metavar="MESH", help="mesh of the object, in metres unless --scale says otherwise")
    add("--count", type=positive_integer, default=64, help="grasps to make (default: %(default)s)")
    add("--seed", type=natural_number, default=0, help="equal seeds give equal grasps (default: %(default)s)")
    add("--scale", type=positive_number, default=1.0, help="factor that makes the mesh metres: 0.001 for millimetres")
    add("--device", help="Warp device, such as cpu or cuda:0 (default: the first GPU, else the CPU)")
    add("--recipe", default="default", help="how grasps are found (default: %(default)s)")
    add("--points", type=positive_integer, default=512, help="points on the hand's surface (default: %(default)s)")
    add("--iterations", type=positive_integer, help="gradient steps (default: the recipe's)")
    add("--valid-only", action="store_true", help="leave out grasps that failed a check")
    add("--out", type=Path, metavar="FILE.npz", help="file for the grasps")
    add("--preview", type=Path, metavar="FILE.png", help="file for a picture of the best grasps")
    add("--json", action="store_true", help="print one JSON document instead of the summary")
    add("--quiet", action="store_true", help="print nothing but errors (and the JSON document, where asked for)")
    parser.set_defaults(run=run_synthesize)


def add_hands(parser: argparse.ArgumentParser) -> None:
    """Options of ``warpgrasp hands``."""
    parser.add_argument("--inspect", metavar="HAND", help="a bundled hand, or the path of a .urdf or .xml (MJCF) file")
    parser.add_argument("--preview", type=Path, metavar="FILE.png", help="file for a picture of the inspected hand")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=lambda options: run_hands(parser, options))


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Options of ``warpgrasp bench``."""
    add = parser.add_argument
    add("suite", metavar="SUITE", help="primitives, or with --objects: ycb, egad, normalized")
    add("--hands", nargs="+", required=True, metavar="HAND", help="bundled hands, or paths of .urdf or .xml files")
    recipes = ["default", "random-closing", "annealing"]
    add("--recipes", nargs="+", default=recipes, metavar="RECIPE", help=f"(default: {' '.join(recipes)})")
    add("--count", type=positive_integer, default=16, help="grasps per object, hand and recipe (default: %(default)s)")
    add("--seed", type=natural_number, default=0, help="equal seeds give equal grasps (default: %(default)s)")
    add("--protocols", nargs="+", default=["fc6"], metavar="PROTOCOL", help="physics tests (default: fc6)")
    add("--objects", type=Path, metavar="FOLDER", help="folder with manifest.json and meshes")
    add("--device", help="Warp device, such as cpu or cuda:0 (default: the first GPU, else the CPU)")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for results.json, table.md, plots and cells/")
    add("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(run=run_bench)


def run_synthesize(options: argparse.Namespace) -> None:
    """``warpgrasp synthesize``."""
    check_output(options.out, ".npz")
    check_output(options.preview, ".png")
    start_warp()
    from .hand_file import load_hand
    from .mesh import load_object
    from .synthesis import synthesize

    hand = load_hand(options.hand)
    mesh = load_object(options.mesh, scale=options.scale)
    start = time.perf_counter()
    with Progress(shown=not options.quiet and sys.stderr.isatty()) as progress:
        grasps = synthesize(
            hand,
            mesh,
            count=options.count,
            seed=options.seed,
            device=options.device,
            recipe=options.recipe,
            valid_only=options.valid_only,
            points=options.points,
            iterations=options.iterations,
            on_progress=progress,
        )
    seconds = time.perf_counter() - start
    if options.out:
        grasps.save(options.out)
    if options.preview and not len(grasps):
        options.preview = None
    if options.preview:
        from .preview import preview

        preview(grasps, options.preview, device=options.device)
    if options.json:
        print_json(synthesis_report(options, grasps, seconds))
    elif not options.quiet:
        print("\n".join(synthesis_summary(options, grasps, seconds)))


class Progress:
    """A bar on stderr that appears after two seconds, and a way out of the work on Ctrl-C.

    Synthesis runs in threads, which Python does not interrupt: they end at their next report.
    """

    def __init__(self, *, shown: bool) -> None:
        from tqdm import tqdm

        self.bar = tqdm(desc="optimizing", unit="step", delay=2.0, leave=False, disable=not shown)
        self.interrupted = False

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps are done; stop the thread that calls if asked to."""
        if self.interrupted:
            raise KeyboardInterrupt
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def __enter__(self) -> Progress:
        self.previous = signal.signal(signal.SIGINT, self.interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self.previous)
        self.bar.close()

    def interrupt(self, *_: object) -> None:
        """Handle Ctrl-C."""
        self.interrupted = True
        raise KeyboardInterrupt


def synthesis_summary(options: argparse.Namespace, grasps: Grasps, seconds: float) -> Iterator[str]:
    """Lines for people."""
    total, valid = len(grasps.valid), int(grasps.valid.sum())
    yield f"{valid} of {total} grasps valid: {grasps.hand.name} on {grasps.object.name}"
    for reason, count in Counter(str(reason) for reason in grasps.reason if reason).most_common():
        yield f"  {count:4d}  {reason}"
    for key, (name, factor, unit) in SUMMARY.items():
        if key in grasps.metrics and total:
            yield f"median {name}: {factor * median(grasps.metrics[key]):.3g} {unit}".rstrip()
    yield f"{seconds:.1f} s, {seconds / options.count:.2g} s per grasp"
    for path in (options.out, options.preview):
        if path:
            yield f"wrote {path}"
    if not total:
        yield "no grasp passed every check: try a larger --count, or leave out --valid-only to see why"
    if not options.out:
        yield "the grasps were not kept: pass --out grasps.npz to keep them"


def synthesis_report(options: argparse.Namespace, grasps: Grasps, seconds: float) -> dict:
    """The JSON document of ``warpgrasp synthesize``."""
    return {
        "hand": grasps.hand.name,
        "object": grasps.object.name,
        "recipe": options.recipe,
        "seed": options.seed,
        "count": len(grasps.valid),
        "valid_count": int(grasps.valid.sum()),
        "seconds": seconds,
        "seconds_per_grasp": seconds / options.count,
        "median": {key: median(values) for key, values in grasps.metrics.items() if values.dtype.kind in "iufb"},
        "out": options.out and str(options.out),
        "preview": options.preview and str(options.preview),
        "grasps": [grasp_report(grasps, grasp) for grasp in range(len(grasps.valid))],
    }


def grasp_report(grasps: Grasps, grasp: int) -> dict:
    """One grasp of the JSON document: its outcome and its poses."""
    return {
        "valid": bool(grasps.valid[grasp]),
        "reason": str(grasps.reason[grasp]),
        "wrist_position": grasps.wrist_position[grasp].tolist(),
        "wrist_quaternion_wxyz": grasps.wrist_quaternion[grasp].tolist(),
        "joint_position": dict(zip(grasps.joint_names, grasps.joint_position[grasp].tolist(), strict=True)),
        "metrics": {key: values[grasp].item() for key, values in grasps.metrics.items() if values.ndim == 1},
    }


def median(values) -> float:
    """Median of the finite values, NaN where there is none."""
    import numpy as np

    values = np.asarray(values, float)
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan


def run_hands(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """``warpgrasp hands``."""
    if options.preview and not options.inspect:
        parser.error("--preview needs --inspect HAND")
    check_output(options.preview, ".png")
    from . import hands
    from .hand_file import load_hand

    if not options.inspect:
        reports = [hand_row(load_hand(name)) for name in hands.names()]
        print_json(reports) if options.json else print_table(reports)
        return
    hand = load_hand(options.inspect)
    if options.preview:
        start_warp()
        from .preview import preview_hand

        preview_hand(hand, options.preview)
    if options.json:
        print_json(hand_report(hand))
    else:
        print("\n".join(hand_summary(hand)))
        if options.preview:
            print(f"\nwrote {options.preview}")


def run_bench(options: argparse.Namespace) -> None:
    """``warpgrasp bench``."""
    start_warp()
    from tqdm import tqdm

    from . import bench, bench_report, device

    settings = bench.Settings(
        suite=options.suite,
        hands=tuple(options.hands),
        recipes=tuple(options.recipes),
        count=options.count,
        seed=options.seed,
        protocols=tuple(options.protocols),
        objects=options.objects,
        device=options.device,
    )
    device.choose(options.device)
    bench.check_folder(options.out)
    hidden = options.quiet or not sys.stderr.isatty()
    with Progress(shown=False) as progress, tqdm(unit="cell", disable=hidden, leave=False) as bar:

        def show(done: int, total: int, row: dict) -> None:
            bar.total = total
            bar.set_description(f"{row['hand']} {row['recipe']} {row['object']}", refresh=False)
            bar.update(done - bar.n)

        rows = bench.run(settings, options.out, on_cell=show, on_progress=progress)
        table = bench_report.write_report(rows, settings, options.out)
    if not options.quiet:
        print(table)


def hand_row(hand: Hand) -> dict:
    """A hand in one line."""
    return {
        "name": hand.name,
        "joints": len(hand.joints),
        "free_joints": len(hand.free_joints),
        "fingers": len(hand.fingers),
        "links": len(hand.links),
        "mass_kg": round(sum(link.mass for link in hand.links), 3),
    }


def hand_report(hand: Hand) -> dict:
    """The JSON document of ``warpgrasp hands --inspect``."""
    links = [link.name for link in hand.links]
    return {
        **hand_row(hand),
        "path": str(hand.path),
        "links": links,
        "joints": [
            {
                "name": joint.name,
                "kind": joint.kind,
                "parent": links[joint.parent],
                "lower": joint.lower,
                "upper": joint.upper,
                "open": float(hand.open_position[i]),
                "free": i in hand.free_joints,
            }
            for i, joint in enumerate(hand.joints)
        ],
        "mimics": [vars(mimic) for mimic in hand.mimics],
        "couplings": [vars(coupling) for coupling in hand.couplings],
        "fingers": [
            {
                "name": finger.name,
                "joints": [hand.joints[i].name for i in finger.joints],
                "tip_link": links[finger.links[-1]],
            }
            for finger in hand.fingers
        ],
        "palm": {
            "link": links[hand.palm.link],
            "position": hand.palm.position.tolist(),
            "normal": hand.palm.normal.tolist(),
            "fingers": hand.palm.fingers.tolist(),
        },
        "pads": [
            {"link": links[pad.link], "position": pad.position.tolist(), "normal": pad.normal.tolist()}
            for pad in hand.pads
        ],
        "inferred": list(hand.inferred),
    }


def hand_summary(hand: Hand) -> Iterator[str]:
    """What is known of a hand, as lines for people."""
    row = hand_row(hand)
    yield f"{hand.name} ({hand.path})"
    yield (
        f"{row['joints']} joints, {row['free_joints']} of them free; {row['links']} links; "
        f"{row['fingers']} fingers; {row['mass_kg']:g} kg"
    )
    of = {mimic.joint: mimic for mimic in hand.mimics}
    yield ""
    yield from table(
        [
            {
                "joint": joint.name,
                "kind": joint.kind,
                "lower": f"{joint.lower:.4g}",
                "upper": f"{joint.upper:.4g}",
                "open": f"{hand.open_position[i]:.4g}",
                "follows": f"{of[joint.name].multiplier:g} {of[joint.name].of}" if joint.name in of else "",
            }
            for i, joint in enumerate(hand.joints)
        ]
    )
    yield ""
    for finger in hand.fingers:
        yield f"finger {finger.name}: {', '.join(hand.joints[i].name for i in finger.joints)}"
    palm = hand.palm
    yield (
        f"palm on {hand.links[palm.link].name}: centre {vector(palm.position)} m, normal {vector(palm.normal)}, "
        f"fingers point {vector(palm.fingers)}"
    )
    yield f"pads on {', '.join(hand.links[pad.link].name for pad in hand.pads) or 'no link'}"
    if hand.inferred:
        yield "\nnot in the file, so inferred:"
        yield from (f"  - {sentence}" for sentence in hand.inferred)


def vector(values) -> str:
    """Three numbers, short."""
    return "(" + ", ".join(f"{value + 0.0:.3g}" for value in values) + ")"


def table(rows: Sequence[dict]) -> Iterator[str]:
    """Rows of equal keys as aligned columns under a heading."""
    if not rows:
        return
    cells = [[key.replace("_", " ") for key in rows[0]], *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [isinstance(value, int | float) for value in rows[0].values()]
    for line in cells:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        yield "  ".join(padded).rstrip()


def print_table(rows: Sequence[dict]) -> None:
    """Print rows of equal keys."""
    print("\n".join(table(rows)))


def print_json(document: object) -> None:
    """Print a document; what is not a number becomes null, since JSON has no NaN."""
    print(json.dumps(finite(document), indent=2))


def finite(value):
    """The value with null for every number that is not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_output(path: Path | None, suffix: str) -> None:
    """Raise before the long work if a file could not be written after it."""
    if path is None:
        return
    if path.suffix.lower() != suffix:
        raise FileFormatError(path, f"give a name that ends in {suffix}")
    if path.is_dir():
        raise FileFormatError(path, "is a folder")
    if not path.parent.is_dir():
        raise FileFormatError(path, f"the folder {path.parent} does not exist")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise FileFormatError(path, "no permission to write there")


def start_warp() -> None:
    """Start Warp without its banner, and without its warning on machines that have no GPU."""
    import warp as wp

    wp.config.log_level = wp.LOG_WARNING
    with silent_stderr():
        wp.init()


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Discard what native code writes to stderr."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def number(kind: Callable[[str], float], accept: Callable[[float], bool], words: str) -> Callable[[str], float]:
    """An argparse type that accepts only some numbers."""

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and accept(value)):
            raise argparse.ArgumentTypeError(f"expected {words}, got {text!r}")
        return value

    return convert


positive_integer = number(int, lambda value: value > 0, "a positive whole number")
natural_number = number(int, lambda value: value >= 0, "a whole number, 0 or larger")
positive_number = number(float, lambda value: value > 0.0, "a positive number")
