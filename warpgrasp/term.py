"""What a part of the loss must offer that is not about hand and object alone."""

from __future__ import annotations

from types import ModuleType
from typing import Protocol

import warp as wp

from .state import State


class Term(Protocol):
    """One part of the loss of a batch of grasps: the table, obstacles, an arm's reach.

    Everything it needs is allocated when it is made; ``add_gradient`` only launches kernels, so that it can be captured
    in a graph.
    """

    loss: wp.array
    """Its weighted loss of each grasp at the last gradient, shape [grasp]."""

    modules: tuple[ModuleType, ...]
    """Kernel modules that it launches from."""

    def add_gradient(self, state: State) -> None:
        """Find the loss, and add its gradient to ``state.link_wrench``.

        A wrench is the derivative for a translation of the link and for its rotation about the object frame's origin;
        what concerns the wrist pose alone goes to link 0.
        """
        ...

    def restart(self) -> None:
        """Forget what one iteration hands on to the next."""
        ...
