"""Encodings of text files: which one a file that is not UTF-8 seems to have, and reading it."""

import codecs
import re
from collections.abc import Iterable, Iterator

UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_GBK_PAIR = re.compile(rb"[\x81-\xfe][\x40-\x7e\x80-\xfe]")
_NOT_ASCII = re.compile(rb"[\x80-\xff]+")


def seems(sample: bytes) -> str | None:
    """The likely encoding of bytes that are not UTF-8: ``utf-16``, ``gbk``, ``latin-1`` or None.

    Chinese text comes in pairs of bytes of which both are above 0xA0; Western letters stand
    between ASCII ones.
    """
    if sample.startswith(_UTF16_BOMS):
        return "utf-16"
    if b"\0" in sample:
        return None
    high = len(re.findall(rb"[\x80-\xff]", sample))
    if not high:
        return None
    pairs = [pair for run in _NOT_ASCII.findall(sample) for pair in _GBK_PAIR.findall(run)]
    in_pairs = 2 * sum(pair[0] >= 0xA1 and pair[1] >= 0xA1 for pair in pairs)
    return "gbk" if in_pairs > 0.6 * high else "latin-1"


def advice(sample: bytes) -> str:
    """What to do about bytes that are not UTF-8, as the end of a sentence."""
    name = seems(sample)
    if name is None:
        return "save the file as UTF-8"
    shown = {"gbk": "GBK", "latin-1": "Latin-1", "utf-16": "UTF-16"}[name]
    return f'looks like {shown}; save it as UTF-8, or set encoding = "{name}"'


def as_utf8(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Bytes in an encoding as UTF-8, in chunks; a file with the mark of UTF-8 is left as it is.

    What is not of the encoding passes unchanged, so that its row is found not to be UTF-8.
    """
    name = codecs.lookup(encoding).name
    if name in ("utf-8", "utf-8-sig"):
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(name)("surrogateescape")
    first, plain = True, False
    for chunk in chunks:
        if first:
            first, plain = False, chunk.startswith(UTF8_BOM)
        yield chunk if plain else _encoded(decoder.decode(chunk))
    if not plain:
        yield _encoded(decoder.decode(b"", True))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
