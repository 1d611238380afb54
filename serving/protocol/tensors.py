"""Tensors of the Open Inference Protocol: datatypes, and the binary tensor extension."""

import math
import struct
from typing import Any

import numpy as np

from slipway.serving.errors import RequestError

DATATYPES = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
InputTensor = dict[str, Any]
"""A tensor of a request as it came: JSON of which nothing is known before it is read."""
_LENGTH = struct.Struct("<I")


def encode_tensor(datatype: str, values: np.ndarray) -> bytes:
    """A tensor's bytes, row by row; a text is its length, then itself in UTF-8."""
    if datatype != "BYTES":
        return values.astype(DATATYPES[datatype], copy=False).tobytes()
    texts = [text.encode() for text in values.reshape(-1)]
    return b"".join(_LENGTH.pack(len(text)) + text for text in texts)


def attach(inputs: object, blob: memoryview, rows: int) -> None:
    """Gives each binary input its part of the bytes that follow the JSON.

    Args:
        inputs: of the request.
        blob: the bytes.
        rows: most rows of a request.

    Raises:
        RequestError: 400, sizes and bytes do not agree.
    """
    if type(inputs) is not list:
        raise RequestError("'inputs' must be a list of tensors, one for each feature.")
    position = 0
    for tensor in inputs:
        parameters = tensor.get("parameters") if type(tensor) is dict else None
        size = parameters.get("binary_data_size") if type(parameters) is dict else None
        if size is None:
            continue
        name, left = tensor.get("name"), len(blob) - position
        if type(size) is not int or not 0 <= size <= left:
            raise RequestError(
                f"Input '{short_text(name)}' has binary_data_size {short_text(size)}, but {left} bytes"
                " follow."
            )
        tensor["data"] = decode_tensor(
            name,
            tensor.get("datatype"),
            tensor.get("shape"),
            blob[position : position + size],
            rows,
        )
        position += size
    if position != len(blob):
        raise RequestError(f"{len(blob) - position} bytes follow the last binary tensor.")


def decode_tensor(
    name: object, datatype: object, shape: object, raw: memoryview, rows: int
) -> object:
    """One binary tensor: a numpy array, or a list of texts for BYTES.

    Raises:
        RequestError: 400, size and shape do not agree, the type is unknown, a text is not UTF-8; 413,
            it has more than `rows` values.
    """
    count = shape[0] if type(shape) is list and shape and type(shape[0]) is int else -1
    if count > rows:
        raise RequestError(f"{count} rows in one request; at most {rows} are taken.", 413)
    values: object
    if datatype == "BYTES":
        values = _decode_texts(name, raw, count)
    elif type(datatype) is str and datatype in DATATYPES:
        dtype = DATATYPES[datatype]
        if len(raw) % dtype.itemsize:
            raise RequestError(
                f"Input '{short_text(name)}': {len(raw)} bytes are no whole {datatype} values."
            )
        values = np.frombuffer(raw, dtype)
        if datatype == "BOOL" and np.frombuffer(raw, np.uint8).max(initial=0) > 1:
            raise RequestError(f"Input '{short_text(name)}': a BOOL is one byte, 0 or 1.")
    else:
        raise RequestError(
            f"Input '{short_text(name)}' has datatype '{short_text(datatype)}', which V2 has not."
        )
    if len(values) != count:
        raise RequestError(
            f"Input '{short_text(name)}' has shape {short_text(shape)} but {len(values)} values in its"
            " bytes."
        )
    return values


def _decode_texts(name: object, raw: memoryview, count: int) -> list[str]:
    """The texts, and one more than `count` at most."""
    texts: list[str] = []
    data, size, position = bytes(raw), len(raw), 0
    unpack = _LENGTH.unpack_from
    # Short texts without an accent are ASCII with their lengths, and are then decoded at once.
    plain = data.decode("ascii") if data.isascii() else None
    try:
        while position < size and len(texts) <= count:
            start = position + 4
            position = start + unpack(data, position)[0]
            if position > size:
                raise struct.error
            texts.append(data[start:position].decode() if plain is None else plain[start:position])
    except struct.error as error:
        raise RequestError(f"Input '{short_text(name)}': its bytes end inside a value.") from error
    except UnicodeDecodeError as error:
        raise RequestError(_no_text(name)) from error
    return texts


def decode_text(name: str, raw: bytes) -> str:
    """A BYTES value as text.

    Raises:
        RequestError: 400, it is not UTF-8.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise RequestError(_no_text(name)) from error


def _no_text(name: object) -> str:
    return f"Input '{short_text(name)}' has a value that is not UTF-8."


def short_text(value: object) -> str:
    """A value as an error message shows it, whatever its size and depth."""
    if type(value) is float and not math.isfinite(value):
        return "that is not finite"
    if isinstance(value, list | dict):
        plain = len(value) <= 4 and not any(type(item) in (list, dict, str) for item in value)
        if type(value) is dict or not plain:
            kind = "a list" if type(value) is list else "an object"
            return f"{kind} of {len(value)}"
    text = value[:200] if type(value) is str else str(value)[:200]
    return text if len(text) <= 60 else f"{text[:60]}…"
