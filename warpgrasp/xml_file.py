"""Reading XML from strangers: no entities, no document types, and prefixes need no declaration."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from .errors import FileFormatError

LARGEST_FILE = 50_000_000
"""[bytes]"""


def read_xml(path: Path) -> Element:
    """Root element of an XML file.

    Robot files use prefixes such as ``drake:`` without declaring them, which a namespace-aware parser refuses;
    here a prefix is a part of the name.

    Raises:
        FileFormatError: The file is missing, too large, broken, or declares a document type or entities.
    """
    if not path.is_file():
        raise FileFormatError(path, "no such file")
    if path.stat().st_size > LARGEST_FILE:
        raise FileFormatError(path, f"larger than {LARGEST_FILE // 1_000_000} MB, which no robot description is")
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = lambda *_: _refuse(path)
    parser.EntityDeclHandler = lambda *_: _refuse(path)
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise FileFormatError(path, f"not well-formed XML: {error}") from error
    return builder.close()


def _refuse(path: Path) -> None:
    raise FileFormatError(
        path, "declares a document type or XML entities, which can read other files or exhaust memory; remove it"
    )
