"""Tensors of the Open Inference Protocol V2: columns by name, in JSON or in the binary extension.

A tensor has shape [n] or [n, 1] and one value a row. In the extension a header says how long the
JSON is, and the values of an input with ``binary_data_size`` follow it, little-endian, a text
behind its length in four bytes.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from usergrowth_dagster.serve.scoring.exchange import Refusal

LENGTH_HEADER = "inference-header-content-length"
_FORMATS = {
    **{"BOOL": "?", "FP32": "f", "FP64": "d"},
    **{"INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q"},
    **{"UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q"},
}


def columns_of(inputs: Any, tail: bytes) -> dict[str, Sequence[Any]]:
    """The columns of a request's ``inputs``; all have as many values.

    Args:
        inputs: of the JSON.
        tail: what follows the JSON.

    Raises:
        Refusal: an input is malformed; the sentence names it.
    """
    if not isinstance(inputs, list) or not inputs:
        raise Refusal(400, "inputs must be an array of tensors")
    columns: dict[str, Sequence[Any]] = {}
    for one in inputs:
        if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
            raise Refusal(400, "each of inputs must be an object with a name")
        name = one["name"]
        rows = _rows(name, one.get("shape"))
        size = (one.get("parameters") or {}).get("binary_data_size")
        if size is None:
            values = _flat(one.get("data"))
        else:
            if not isinstance(size, int) or not 0 <= size <= len(tail):
                raise Refusal(400, f"input {name[:60]}: binary_data_size is not that of its data")
            values, tail = _binary(name, str(one.get("datatype")), rows, tail[:size]), tail[size:]
        if len(values) != rows:
            raise Refusal(400, f"input {name[:60]}: its shape says {rows}, and its data has others")
        columns[name] = values
    if len({len(values) for values in columns.values()}) > 1:
        raise Refusal(400, "inputs: all tensors must have as many rows")
    return columns


def _rows(name: str, shape: Any) -> int:
    """Rows of a tensor of one value a row."""
    sound = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if not sound or not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
        raise Refusal(400, f"input {name[:60]}: its shape must be [n] or [n, 1]")
    return int(shape[0])


def _flat(data: Any) -> list[Any]:
    if not isinstance(data, list):
        return []
    return [one[0] if isinstance(one, list) and len(one) == 1 else one for one in data]


def _binary(name: str, datatype: str, rows: int, data: bytes) -> list[Any]:
    malformed = Refusal(400, f"input {name[:60]}: its data is not {rows} of {datatype[:10]}")
    if datatype == "BYTES":
        return _texts(data, malformed)
    code = _FORMATS.get(datatype)
    if code is None or struct.calcsize(f"<{code}") * rows != len(data):
        raise malformed
    return list(struct.unpack(f"<{rows}{code}", data))


def _texts(data: bytes, malformed: Refusal) -> list[str]:
    texts, at = [], 0
    while at < len(data):
        if at + 4 > len(data):
            raise malformed
        (size,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + size > len(data):
            raise malformed
        try:
            texts.append(data[at : at + size].decode())
        except UnicodeDecodeError:
            raise malformed from None
        at += size
    return texts
