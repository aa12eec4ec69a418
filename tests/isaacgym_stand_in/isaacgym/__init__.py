"""A stand-in for Isaac Gym's Python API: checks names, order and arguments of the calls, and plays back a state."""

import sys

assert "torch" not in sys.modules, "isaacgym must be imported before torch"
