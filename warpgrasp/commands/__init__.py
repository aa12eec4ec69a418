"""The commands of ``warpgrasp``.

A command is a module here: ``HELP`` and ``DESCRIPTION``, ``add_arguments(parser)`` and ``run(options)``. Nothing heavy
is imported before ``run``, so that ``--help`` and wrong arguments are answered at once.
"""

COMMANDS = (
    "synthesize", "settle", "evaluate", "validate", "recheck", "export", "import", "hands", "bench", "generate",
    "dataset",
)  # fmt: skip
"""Modules in the order of ``warpgrasp --help``."""
