"""``warpgrasp validate``."""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from .arguments import add_grasps, check_output, natural_number, positive_integer, read_grasps
from .output import Progress, median, print_json, start_warp, verdict_report, watched

if TYPE_CHECKING:
    from ..physics.object_model import ObjectShape
    from ..physics.protocols import Protocol
    from ..result import Grasps

HELP = "test in a physics simulation whether grasps hold"
DESCRIPTION = (
    "Test in a physics simulation whether grasps hold, valid or not. docs/physics.md describes the protocols: "
    "fc6, dgn6, gendex6, sd_obman, sd_2s, lift."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Grasps and options."""
    add_grasps(parser)
    add = parser.add_argument
    add("--protocol", nargs="+", default=["fc6"], metavar="NAME", help="one test or several (default: fc6)")
    add("--workers", type=positive_integer, metavar="N", help="processes (default: one per core)")
    add("--device", help="Warp device, such as cuda:0, on which mujoco-warp simulates (default: MuJoCo, in processes)")
    add("--hand-mjcf", type=Path, metavar="FILE.xml", help="your own MJCF of the same hand, to be simulated instead")
    add("--couple-actuators", action="store_true", help="one motor for joints that the hand pulls together")
    add(
        "--record",
        type=Path,
        metavar="FILE",
        help="record a grasp: .gif a film, .png a strip of pictures, .npz numbers",
    )
    add("--index", type=natural_number, metavar="I", help="the grasp to record (default: 0, the best)")
    add("--out", type=Path, metavar="FILE.npz", help="file for the grasps with their outcomes")
    add("--json", action="store_true", help="print one JSON document instead of the summary")
    add("--quiet", action="store_true", help="print nothing but errors (and the JSON document, where asked for)")


def run(options: argparse.Namespace) -> None:
    """``warpgrasp validate``."""
    check_output(options.out, ".npz")
    check_output(options.record, ".gif", ".png", ".npz")
    if options.index is not None and not options.record:
        raise OptionError("--index says which grasp to record; it needs --record FILE")
    grasps = read_grasps(options.grasps)
    index = options.index or 0
    if index >= len(grasps):
        raise OptionError(f"--index must be from 0 to {len(grasps) - 1}, got {index}")
    protocols = find_protocols(options.protocol)
    settings = {"hand_mjcf": options.hand_mjcf, "couple_actuators": options.couple_actuators}
    check_device(options.device, protocols)
    check_scene(grasps, protocols, settings)

    start = time.perf_counter()
    shape = cut(grasps, options)
    for protocol in protocols:
        grasps = judge(grasps, protocol, shape, settings, options)
    if options.record:
        film(grasps, index, protocols[0], shape, settings, options)
    seconds = time.perf_counter() - start
    if options.out:
        grasps.save(options.out)
    if options.json:
        print_json(report(options, grasps, protocols, shape, seconds))
    elif not options.quiet:
        print("\n".join(summary(options, grasps, protocols, shape, seconds)))


def find_protocols(names: Iterable[str]) -> list[Protocol]:
    """The protocols, each once."""
    from ..physics.protocols import find_protocol

    return list({protocol.name: protocol for protocol in map(find_protocol, names)}.values())


def check_device(device: str | None, protocols: Iterable[Protocol]) -> None:
    """Raise if the protocols cannot be simulated there."""
    if device is None:
        return
    from ..device import choose
    from ..physics import batch

    start_warp()
    choose(device)
    for protocol in protocols:
        batch.check(protocol)


def check_scene(grasps: Grasps, protocols: Iterable[Protocol], settings: dict[str, Any]) -> None:
    """Raise if the hand cannot be simulated, with a ball for the object: to cut the real one takes its time."""
    import numpy as np

    from ..errors import FileFormatError
    from ..physics.object_model import ObjectShape
    from ..validation import prepare

    path = settings["hand_mjcf"]
    if path is not None and not path.is_file():
        raise FileFormatError(path, "there is no such file")
    for protocol in protocols:
        prepare(grasps, protocol, ObjectShape("sphere", np.array([0.01])), **settings)


def cut(grasps: Grasps, options: argparse.Namespace) -> ObjectShape:
    """What the object touches with; cutting it into convex pieces is done once and kept."""
    from ..physics.object_model import object_shape

    start_warp()
    doing = f"cutting {grasps.object_name} into convex pieces"
    with Progress(doing, shown=watched(options)), warnings.catch_warnings():
        # What is wrong is in the shape's note, which is printed.
        warnings.simplefilter("ignore")
        return object_shape(grasps.object)


def judge(
    grasps: Grasps, protocol: Protocol, shape: ObjectShape, settings: dict[str, Any], options: argparse.Namespace
) -> Grasps:
    """The grasps with the outcome of one protocol."""
    from ..validation import validate

    with Progress(protocol.name, "grasp", shown=watched(options)) as progress:
        return validate(
            grasps,
            protocol,
            workers=options.workers,
            device=options.device,
            shape=shape,
            on_progress=progress,
            **settings,
        )


def film(
    grasps: Grasps,
    index: int,
    protocol: Protocol,
    shape: ObjectShape,
    settings: dict[str, Any],
    options: argparse.Namespace,
) -> None:
    """Write the recording of one grasp."""
    from ..physics.record import record

    with Progress("drawing", "picture", shown=watched(options)) as progress:
        record(grasps, index, options.record, protocol=protocol, shape=shape, on_progress=progress, **settings)


def summary(
    options: argparse.Namespace, grasps: Grasps, protocols: Iterable[Protocol], shape: ObjectShape, seconds: float
) -> Iterator[str]:
    """Lines for people."""
    yield f"{len(grasps)} grasps, {int(grasps.valid.sum())} valid: {grasps.hand.name} on {grasps.object_name}"
    if shape.note:
        yield f"note: {shape.note}"
    for protocol in protocols:
        yield from protocol_summary(grasps, protocol)
    yield f"{seconds:.1f} s, {seconds / len(grasps):.2g} s per grasp"
    for path in (options.out, options.record):
        if path:
            yield f"wrote {path}"
    if not options.out:
        yield "the outcomes were not kept: pass --out judged.npz to keep them"


def protocol_summary(grasps: Grasps, protocol: Protocol) -> Iterator[str]:
    """What became of the grasps under one protocol, and which check or pull the others failed."""
    name = protocol.name
    if f"success_{name}" not in grasps.metrics:
        moved = 1e3 * median(grasps.metrics[f"{name}_displacement_m"])
        yield f"{name}: the object moved {moved:.3g} mm (median); nothing is judged"
        return
    held, valid = grasps.metrics[f"success_{name}"] > 0, grasps.valid
    yield f"{name}: {share_text(held)}" + ("" if valid.all() else f", {share_text(held[valid], 'of the valid ones')}")
    for reason, pulls in failures(grasps, name).items():
        where = ", ".join(f"{pull} {count}" for pull, count in pulls.most_common() if pull)
        yield f"  {pulls.total():4d}  {reason}" + (f" (pull {where})" if where else "")


def share_text(held: Any, of: str = "held") -> str:
    """A count with its share and 95 % interval."""
    from ..bench_report import share

    part = share(held)
    if not part["of"]:
        return f"0 of 0 {of}"
    low, high = 100 * part["low"], 100 * part["high"]
    return (
        f"{part['count']} of {part['of']} {of} ({100 * part['value']:.0f} %, 95 % interval {low:.0f} to {high:.0f} %)"
    )


def failures(grasps: Grasps, name: str) -> dict[str, Counter[str]]:
    """Why grasps failed, most often first, and in how many of which pull, "" before any."""
    found: dict[str, Counter[str]] = {}
    columns = (grasps.metrics[f"{name}_{column}"].tolist() for column in ("failure", "failed_pull"))
    for failure, pull in zip(*columns, strict=True):
        if failure:
            found.setdefault(failure.removeprefix(f"pull {pull}: "), Counter())[pull] += 1
    return dict(sorted(found.items(), key=lambda item: -item[1].total()))


def report(
    options: argparse.Namespace, grasps: Grasps, protocols: Iterable[Protocol], shape: ObjectShape, seconds: float
) -> dict[str, Any]:
    """The JSON document of ``warpgrasp validate``."""
    return {
        "grasps_file": str(options.grasps),
        "hand": grasps.hand.name,
        "object": grasps.object_name,
        "count": len(grasps),
        "valid_count": int(grasps.valid.sum()),
        "seconds": seconds,
        "note": shape.note,
        "protocols": {protocol.name: protocol_report(grasps, protocol.name) for protocol in protocols},
        "out": options.out and str(options.out),
        "record": options.record and str(options.record),
        "grasps": [verdict_report(grasps, grasp) for grasp in range(len(grasps))],
    }


def protocol_report(grasps: Grasps, name: str) -> dict[str, Any]:
    """One protocol of the JSON document; ``held`` is null where nothing is judged."""
    from ..bench_report import share

    success = grasps.metrics.get(f"success_{name}")
    return {
        "held": None if success is None else share(success > 0),
        "held_of_valid": None if success is None else share(success[grasps.valid] > 0),
        "failures": {reason: pulls.total() for reason, pulls in failures(grasps, name).items()},
        "failed_pulls": dict(sum(failures(grasps, name).values(), Counter())),
        "median_displacement_m": median(grasps.metrics[f"{name}_displacement_m"]),
    }
