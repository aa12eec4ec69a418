"""The command line; each command is a module of ``warpgrasp.commands``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from . import __version__
from .commands import COMMANDS
from .errors import WarpgraspError

BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


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
    for name in COMMANDS:
        command = import_module(f".commands.{name}", __package__)
        chosen = commands.add_parser(name, help=command.HELP, description=command.DESCRIPTION)
        command.add_arguments(chosen)
        chosen.set_defaults(run=command.run)
    return parser
