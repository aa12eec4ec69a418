"""``warpgrasp dataset``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import FileFormatError
from .arguments import natural_number, positive_integer, positive_number
from .generate import Bar, duration
from .output import print_json, start_warp, table

HELP = "look after a dataset: verify, repair, merge, stats, split"
DESCRIPTION = "Look after a dataset that `warpgrasp generate` has made; docs/datasets.md has worked examples."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A command for each thing to do."""
    commands = parser.add_subparsers(required=True, metavar="WHAT", parser_class=type(parser))

    def command(function, text: str, several: bool = False) -> argparse.ArgumentParser:
        chosen = commands.add_parser(function.__name__, help=text, description=text)
        count = "+" if several else None
        chosen.add_argument("folder", type=Path, nargs=count, metavar="DIR", help="folder of a dataset")
        chosen.add_argument("--json", action="store_true", help="print one JSON document")
        chosen.add_argument("--quiet", action="store_true", help="print nothing but errors (and the JSON document)")
        chosen.set_defaults(what=function)
        return chosen

    deep = command(verify, "compare every file with its record")
    deep.add_argument("--deep", action="store_true", help="read every row, too")
    chosen = command(repair, "delete what is damaged and make it again")
    chosen.add_argument("--workers", type=positive_integer, metavar="N", help="processes")
    chosen.add_argument("--device", help="Warp device, such as cpu or cuda:0")
    chosen = command(merge, "put the shards of some datasets into few large files of a new one", several=True)
    chosen.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the new dataset")
    command(stats, "count grasps by hand and by object")
    chosen = command(split, "divide the objects into train, validation and test")
    names = ("TRAIN", "VALIDATION", "TEST")
    chosen.add_argument(
        "--fractions",
        type=positive_number,
        nargs=3,
        default=[0.8, 0.1, 0.1],
        metavar=names,
        help="default: 0.8 0.1 0.1",
    )
    chosen.add_argument("--seed", type=natural_number, default=0, help="another seed, another division")


def run(options: argparse.Namespace) -> None:
    """``warpgrasp dataset``."""
    start_warp()
    options.what(options)


def verify(options: argparse.Namespace) -> None:
    """``warpgrasp dataset verify``."""
    from ..dataset import verifying

    problems = verifying.verify(options.folder, deep=options.deep)
    if options.json:
        print_json({"problems": [{"path": problem.path, "what": problem.what} for problem in problems]})
    elif not options.quiet:
        print("\n".join(f"{problem.path}: {problem.what}" for problem in problems) or "all is well")
    if problems:
        raise FileFormatError(
            options.folder,
            f"{len(problems)} files are not as they should be; `warpgrasp dataset repair` makes them again",
        )


def repair(options: argparse.Namespace) -> None:
    """``warpgrasp dataset repair``."""
    from ..dataset import verifying

    options.executor = options.part = None
    with Bar(options) as progress:
        problems, report = verifying.repair(
            options.folder, workers=options.workers, device=options.device, on_report=progress
        )
    if options.json:
        print_json({"deleted": [problem.path for problem in problems], "made_shards": report.made if report else 0})
    elif not options.quiet:
        print(f"deleted {len(problems)} damaged files" if problems else "all is well")
        if report:
            print(f"made {report.made} shards again")
        elif problems:
            print("the configuration is not in the folder; run `warpgrasp generate` again to make what is missing")


def merge(options: argparse.Namespace) -> None:
    """``warpgrasp dataset merge``."""
    from ..dataset import merging

    store = merging.merge(options.folder, options.out)
    parts = list(store.parts())
    rows, size = sum(part.rows for part in parts), sum(size for part in parts for size, _ in part.files.values())
    if options.json:
        print_json({"folder": str(options.out), "grasps": rows, "files": len(parts), "bytes": size})
    elif not options.quiet:
        print(f"{rows} grasps in {len(parts)} files, {size / max(rows, 1):.0f} bytes each, in {options.out}")


def stats(options: argparse.Namespace) -> None:
    """``warpgrasp dataset stats``."""
    from ..dataset import verifying

    counts = verifying.stats(options.folder)
    if options.json:
        print_json(counts)
        return
    rows = [
        {
            "hand": name,
            "shards": hand["shards"],
            "grasps": hand["rows"],
            "valid": hand["valid"],
            "% valid": round(100.0 * hand["valid"] / max(hand["rows"], 1), 1),
            "bytes each": round(hand["bytes"] / max(hand["rows"], 1)),
            "worker time": duration(hand["seconds"]),
        }
        for name, hand in counts["hands"].items()
    ]
    print("\n".join(table(rows)) or "no shard is there")
    print("\n".join(table([{"object": name} | entry for name, entry in counts["objects"].items()])))
    for name, count in counts["splits"].items():
        print(f"{name}: {count} objects")
    if counts["failed_shards"]:
        print(f"{counts['failed_shards']} shards could not be made; see {options.folder / 'failures'}")


def split(options: argparse.Namespace) -> None:
    """``warpgrasp dataset split``."""
    from ..dataset import splitting

    names = ("train", "validation", "test")
    found = splitting.split(
        options.folder, fractions=dict(zip(names, options.fractions, strict=True)), seed=options.seed
    )
    if options.json:
        print_json(found)
    elif not options.quiet:
        for name, objects in found.items():
            print(f"{name}: {len(objects)} objects")
