"""NumPy files with Python objects in them, as other projects keep theirs: written plainly, read with great restraint.

Such a file is a pickle, and a pickle can run any program when it is loaded. What is read here may hold arrays, numbers,
text and plain containers; the first name of anything else stops the reading before it is looked up.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileFormatError

MAX_BYTES = 1024**3
"""Largest file, and largest unpacked archive, that is read."""

DTYPE = re.compile(r"[<>|=]?([biufc]\d{1,2}|[SU]\d{1,6}|[O?]\d?)")
"""Types of arrays that may be in a file."""


class Refused(Exception):
    """A pickle names something that is not data."""


def write_object(path: Path, value: Any) -> None:
    """Write what ``np.load(path, allow_pickle=True)`` reads in NumPy 1 and 2: an array of Python objects."""
    path.write_bytes(object_bytes(value))


def object_bytes(value: Any) -> bytes:
    """An ``.npy`` file in memory; a dictionary becomes an array without dimensions, a list one with one."""
    array = np.empty(len(value) if isinstance(value, list) else (), object)
    array[...] = value
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    # Protocol 3 names modules in plain lines. NumPy 1 does not know numpy._core; both know numpy.core.
    content = pickle.dumps(array, protocol=3)
    return file.getvalue() + content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def read_npy(path: Path) -> Any:
    """The content of an ``.npy`` file: an array, or the dictionary or list in it.

    Raises:
        FileFormatError: The file is missing, too large, damaged, no ``.npy`` file or not plain data.
    """
    return parse_npy(path, read_bytes(path))


def read_npz(path: Path) -> dict[str, Any]:
    """The content of an ``.npz`` file by name; see :func:`read_npy`."""
    content = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(item.file_size for item in archive.infolist())
            if size > MAX_BYTES:
                raise FileFormatError(path, f"it unpacks to {size} bytes; at most {MAX_BYTES} are read")
            return {
                name.removesuffix(".npy"): parse_npy(path, archive.read(name))
                for name in archive.namelist()
                if name.endswith(".npy")
            }
    except FileFormatError:
        raise
    except Exception as error:
        raise FileFormatError(path, f"it is not an .npz file, or it is damaged ({error})") from error


def read_bytes(path: Path) -> bytes:
    """The bytes of a file of bounded size."""
    if not path.is_file():
        raise FileFormatError(path, "there is no such file")
    if path.stat().st_size > MAX_BYTES:
        raise FileFormatError(path, f"it has {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
    return path.read_bytes()


def parse_npy(path: Path, content: bytes) -> Any:
    """See :func:`read_npy`."""
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read_header[version](file)
        if not dtype.hasobject:
            if dtype.itemsize * int(np.prod(shape, dtype=object)) > len(content):
                raise FileFormatError(path, "it ends before its data does")
            return np.load(io.BytesIO(content), allow_pickle=False)
        value = resolve(Unpickler(file).load(), {})
    except Refused as error:
        raise FileFormatError(path, f"it is refused: {error}") from error
    except FileFormatError:
        raise
    except Exception as error:
        raise FileFormatError(
            path, f"it is not an .npy file, or it is damaged ({error or type(error).__name__})"
        ) from error
    if not isinstance(value, np.ndarray) or value.shape != tuple(shape):
        raise FileFormatError(path, "its header and its content differ")
    return value.item() if value.shape == () else list(value)


Interpreter: Any = pickle._Unpickler  # pyright: ignore[reportAttributeAccessIssue]
"""The one written in Python: the one in C takes any amount of memory for a few bytes that ask for it."""


class Unpickler(Interpreter):
    """Loads arrays, numbers, text and plain containers only."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name, or nothing at all."""
        module = module.replace("numpy._core", "numpy.core")
        if (module, name) not in ALLOWED:
            raise Refused(f"it asks for {module}.{name}; only arrays, numbers, text and containers are read")
        return ALLOWED[module, name]

    def load_build(self) -> None:
        """Give arrays and types their state, and nothing else: ``setattr`` on a class here would outlive the file."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Array | Kind):
            raise Refused("it gives a state to something other than an array")
        self.stack[-1].__setstate__(state)

    dispatch = Interpreter.dispatch | {pickle.BUILD[0]: load_build}

    def persistent_load(self, pid: Any) -> Any:
        """Nothing is looked up elsewhere."""
        raise Refused("it refers to an object elsewhere")


class Kind:
    """Stands for ``numpy.dtype``: a plain type by its code."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        if not isinstance(code, str) or not DTYPE.fullmatch(code):
            raise Refused(f"it has an array of type {code!r:.40}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class Array:
    """Stands for ``numpy.ndarray``, and becomes one after the whole file was read."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, content = state
        if kind.dtype.hasobject:
            flat = np.empty(len(content), object)
            flat[:] = content
        else:
            flat = np.frombuffer(content, kind.dtype)
        self.value = flat.reshape(shape, order="F" if fortran else "C")


def reconstruct(kind: type, shape: tuple, code: bytes) -> Array:
    """What NumPy's own pickles of arrays start with."""
    if kind is not Array or tuple(shape) != (0,):
        raise Refused("it builds an array in a way that NumPy does not")
    return Array()


def from_buffer(content: bytes, kind: Kind, shape: tuple, order: str) -> Array:
    """What they start with since protocol 5."""
    array = Array()
    array.__setstate__((1, shape, kind, order == "F", content))
    return array


def scalar(kind: Kind, content: bytes) -> Any:
    """One number."""
    return np.frombuffer(content, kind.dtype).item()


def encode(text: str, encoding: str) -> bytes:
    """Bytes, as Python 3 writes them for Python 2."""
    if encoding != "latin1":
        raise Refused(f"it has bytes in the encoding {encoding!r:.20}")
    return text.encode("latin1")


def resolve(value: Any, done: dict[int, Any]) -> Any:
    """The same containers with arrays in place of their stand-ins; what occurs twice is looked at once."""
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, Array):
        array = value.value
        if array is not None and array.dtype.hasobject:
            items = np.empty(array.size, object)
            items[:] = [resolve(item, done) for item in array.ravel()]
            array = items.reshape(array.shape)
        done[id(value)] = array
    elif isinstance(value, dict):
        done[id(value)] = {key: resolve(item, done) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        done[id(value)] = type(value)([resolve(item, done) for item in value])
    else:
        return value
    return done[id(value)]


ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): reconstruct,
    ("numpy.core.multiarray", "scalar"): scalar,
    ("numpy.core.numeric", "_frombuffer"): from_buffer,
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): Kind,
    ("_codecs", "encode"): encode,
    ("collections", "OrderedDict"): dict,
}
"""Every name that a file may use, and what it gets instead."""
