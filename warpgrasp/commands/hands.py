"""``warpgrasp hands``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OptionError
from .arguments import check_output
from .output import print_json, print_table, start_warp, table, vector

if TYPE_CHECKING:
    from ..hand import Hand

HELP = "list the bundled hands, or show what is known of one"
DESCRIPTION = "List the bundled hands, or show what was read and inferred for one hand."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which hand, and how to show it."""
    parser.add_argument("--inspect", metavar="HAND", help="a bundled hand, or the path of a .urdf or .xml (MJCF) file")
    parser.add_argument("--preview", type=Path, metavar="FILE.png", help="file for a picture of the inspected hand")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(options: argparse.Namespace) -> None:
    """``warpgrasp hands``."""
    if options.preview and not options.inspect:
        raise OptionError("--preview needs --inspect HAND")
    check_output(options.preview, ".png")
    from .. import hands
    from ..hand_file import load_hand

    if not options.inspect:
        reports = [hand_row(load_hand(name)) for name in hands.names()]
        print_json(reports) if options.json else print_table(reports)
        return
    hand = load_hand(options.inspect)
    if options.preview:
        start_warp()
        from ..preview import preview_hand

        preview_hand(hand, options.preview)
    if options.json:
        print_json(hand_report(hand))
    else:
        print("\n".join(hand_summary(hand)))
        if options.preview:
            print(f"\nwrote {options.preview}")


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
