"""Tensors of the stand-in."""


class Tensor:
    """Has what the worker needs of a torch tensor."""

    def __init__(self, array):
        self.array = array

    def cpu(self):
        """Itself."""
        return self

    def numpy(self):
        """The array."""
        return self.array


def wrap_tensor(handle):
    """The tensor of a handle that ``acquire_particle_state_tensor`` gave."""
    assert handle.kind == "particles", handle
    return Tensor(handle.array)
