"""Completing a hand: whatever neither its file nor its annotation says is inferred from geometry and motion."""

from __future__ import annotations

import dataclasses
from collections.abc import Container

import numpy as np

from .hand import Hand
from .infer_fingers import infer_fingers
from .infer_neighbours import adjacent, infer_neighbours
from .infer_open import infer_open
from .infer_palm import Motion, infer_pads, infer_palm

PARTS = ("fingers", "palm", "pads", "open", "neighbours")
"""What can be inferred, by its key in hand.yaml."""


def complete(hand: Hand, given: Container[str] = ()) -> Hand:
    """The hand with all parts that are not given, and with a sentence for each in ``inferred``.

    Args:
        hand: A hand as the file (and the annotation) describes it.
        given: Parts, out of ``PARTS``, that the hand already has.
    """
    missing = [part for part in PARTS if part not in given]
    notes = list(hand.inferred)
    if set(missing) - {"neighbours"}:
        hand = _complete_anatomy(hand, missing, notes)
    neighbours = hand.neighbours | adjacent(hand)
    if "neighbours" in missing:
        overlapping = infer_neighbours(hand)
        neighbours |= overlapping
        names = [f"{hand.links[a].name} with {hand.links[b].name}" for a, b in sorted(overlapping)]
        notes.append(f"Links that overlap by construction and may: {', '.join(names) or 'only adjacent ones'}.")
    return dataclasses.replace(hand, neighbours=neighbours, inferred=tuple(notes))


def _complete_anatomy(hand: Hand, missing: list[str], notes: list[str]) -> Hand:
    palm_link, fingers = infer_fingers(hand)
    if "palm" not in missing:
        palm_link = hand.palm.link
    if "fingers" in missing:
        hand = dataclasses.replace(hand, fingers=fingers)
        names = ", ".join(finger.name for finger in fingers)
        notes.append(f"Fingers are the chains from {hand.links[palm_link].name!r} to {names}.")
    motion = Motion(hand, palm_link, hand.fingers)
    if "palm" in missing:
        palm, how = infer_palm(motion)
        hand = dataclasses.replace(hand, palm=palm)
        notes.append(f"The palm is {hand.links[palm_link].name!r} with normal {_text(palm.normal)}: {how}.")
    if "pads" in missing:
        hand = dataclasses.replace(hand, pads=infer_pads(motion))
        notes.append("Pads are where the last links face the place at which the fingertips meet.")
    if "open" in missing:
        hand = dataclasses.replace(hand, open_position=infer_open(motion, infer_pads(motion)))
        notes.append("The open pose surrounds the place at which the fingertips meet, slightly bent.")
    return hand


def _text(vector: np.ndarray) -> str:
    return "(" + ", ".join(f"{v:.2f}" for v in vector + 0.0) + ")"
