"""The card of a dataset: the README.md that Hugging Face's ``datasets`` reads, and that people do."""

from __future__ import annotations

from ..files import write_atomically
from .schema import CONTACT_FIELDS, FIELDS
from .store import TABLES, Part, Store

MARK = "<!-- written by warpgrasp; remove this line to keep your own text -->"

FRONT = """\
---
pretty_name: Dexterous grasps
task_categories:
- robotics
tags:
- grasping
configs:
"""

INTRODUCTION = """
# Grasps

{rows} dexterous grasps, {valid} of them valid, of {objects} objects by {hands}, made with
[warpgrasp](https://pypi.org/project/warpgrasp/). Failures are kept and say why. `dataset.json` has the configuration,
`summary.html` plots and pictures.

```python
from datasets import load_dataset

grasps = load_dataset("path/of/this/folder", "{first}", split="{split}", streaming=True)
```

```python
from warpgrasp import dataset

for grasps in dataset.open_store("path/of/this/folder").grasps(hand="{first}"):
    grasps.joint_names, grasps.joint_position, grasps.valid
```

Lengths are in metres, angles in radians, quaternions are **w, x, y, z**. Poses are those of the hand's base link in the
frame of the object's mesh, which lies in `objects/`. Contact normals point into the object.
"""


def write_card(store: Store) -> None:
    """Write ``README.md``, unless somebody has taken the mark out of the one that is there."""
    path = store.folder / "README.md"
    if path.exists() and MARK not in path.read_text(encoding="utf-8"):
        return
    parts = list(store.parts())
    if parts:
        write_atomically(path, card(store, parts))


def card(store: Store, parts: list[Part]) -> str:
    """Text of the card: one configuration for each hand and table, since joint vectors differ in size."""
    hands = sorted({part.hand for part in parts})
    files = data_files(store, parts)
    lines = [
        "---",
        "pretty_name: Dexterous grasps",
        "task_categories:",
        "- robotics",
        "tags:",
        "- grasping",
        "configs:",
    ]
    for (table, hand), by_split in sorted(files.items(), key=lambda item: (TABLES.index(item[0][0]), item[0][1])):
        lines.append(f"- config_name: {hand if table == TABLES[0] else f'{hand}_{table}'}")
        if (table, hand) == (TABLES[0], hands[0]):
            lines.append("  default: true")
        lines.append("  data_files:")
        for split, paths in by_split.items():
            lines += [f"  - split: {split}", "    path:", *(f"    - {path}" for path in paths)]
    rows, valid = (sum(getattr(s, key) for p in parts for s in p.shards.values()) for key in ("rows", "valid"))
    objects = len({name for part in parts for name in part.objects})
    text = INTRODUCTION.format(
        rows=rows,
        valid=valid,
        objects=objects,
        hands=", ".join(hands),
        first=hands[0],
        split=next(iter(files[TABLES[0], hands[0]])),
    )
    return "\n".join(
        [*lines, "---", MARK, text, *field_table("Columns", FIELDS), *field_table("Contacts", CONTACT_FIELDS)]
    )


def data_files(store: Store, parts: list[Part]) -> dict[tuple[str, str], dict[str, list[str]]]:
    """Paths or patterns by table and hand, and by split; all is ``train`` while there are no splits.

    A part with objects of several splits can stand in none; ``merge`` takes such parts asunder.
    """
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    mixed = any(len({store.split_of.get(name) for name in part.objects}) > 1 for part in parts)
    for part in parts:
        for path in part.files:
            table, hand, _ = path.split("/")
            if store.splits and not mixed:
                split = store.split_of.get(part.objects[0])
                if split is not None:
                    found.setdefault((table, hand), {}).setdefault(split, []).append(path)
            else:
                found[table, hand] = {"train": [f"{table}/{hand}/*.parquet"]}
    order = list(store.splits)
    return {
        key: dict(sorted(splits.items(), key=lambda item: order.index(item[0]) if order and not mixed else 0))
        for key, splits in found.items()
    }


def field_table(title: str, fields: dict[str, tuple[str, str]]) -> list[str]:
    """Columns of a table in Markdown."""
    rows = [f"| `{name}` | {kind} | {meaning} |" for name, (kind, meaning) in fields.items()]
    return [f"## {title}", "", "| column | type | meaning |", "|---|---|---|", *rows, ""]
