"""One checkpoint as the bytes of a file: safetensors with a checksum of its own.

Arrays are tensors; scalars and names are one JSON string in the metadata (one, because safetensors writes several in
any order, and equal states shall be equal files). Beside it stands the sha256 over names, dtypes, shapes, bytes and
that string, so that a file is verified wherever it lies. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as safetensors_bytes

from reid_core.errors import CheckpointError

Tensors = Mapping[str, NDArray[Any]]

_KEY = "reid_core"
_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def encode(tensors: Tensors, meta: Mapping[str, Any]) -> bytes:
    """A whole checkpoint file as bytes; arguments and errors as ``CheckpointFolder.save``."""
    stored = {str(name): _storable(str(name), array) for name, array in tensors.items()}
    if "__metadata__" in stored:
        raise TypeError("a tensor cannot be called '__metadata__': safetensors has that name for itself")
    for name, value in meta.items():
        try:
            json.dumps({name: value}, default=_number)
        except (TypeError, ValueError) as error:
            raise TypeError(f"meta[{name!r}] has no JSON form ({error}); arrays go to the tensors") from error
    text = json.dumps({str(name): value for name, value in meta.items()}, default=_number)
    noted = {"format": 1, "sha256": _content_digest(stored, text), "meta": text}
    return safetensors_bytes(stored, metadata={_KEY: json.dumps(noted)})


def _number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__}")


def _storable(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """``array`` in memory order and little endian: safetensors copies the bytes as they lie, strides or not."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"tensor {name!r} must be a NumPy array, got {type(array).__name__}")
    if array.dtype.newbyteorder("=") not in [np.dtype(d) for d in _DTYPES.values()]:
        raise TypeError(
            f"tensor {name!r} has dtype {array.dtype}, which cannot be stored; bool, integers and float16-64 can "
            "(bfloat16: give float32, which holds it exactly, and note the dtype in the metadata)"
        )
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _content_digest(tensors: Tensors, meta: str) -> str:
    """sha256 over names, dtypes, shapes, bytes and metadata."""
    digest = hashlib.sha256(meta.encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(json.dumps([name, array.dtype.name, array.shape]).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def decode(data: bytes, path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Tensors and metadata of a checkpoint file, verified by the checksum it carries.

    Args:
        data: the file. path: named in errors.

    Raises:
        CheckpointError: not one of our checkpoints, or damaged.
    """
    try:
        views = deserialize(data)  # type: ignore[no-untyped-call]
        (length,) = struct.unpack("<Q", data[:8])
        texts = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
        noted = json.loads(texts[_KEY]) if _KEY in texts else None
    except (SafetensorError, ValueError, struct.error, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}).") from error
    if noted is None:
        raise CheckpointError(
            f"{path} is a safetensors file, but not a checkpoint of reid-core; to start a training from its weights, "
            "give it to --weights."
        )
    if not isinstance(noted, dict) or not isinstance(noted.get("meta"), str):
        raise CheckpointError(f"{path} is damaged: its metadata is not what is written there.")
    tensors = {}
    for name, view in views:
        if view["dtype"] not in _DTYPES:
            raise CheckpointError(
                f"{path} is damaged: tensor {name!r} has dtype {view['dtype']}, which is never written."
            )
        dtype = np.dtype(_DTYPES[view["dtype"]]).newbyteorder("<")
        memory = view["data"] if isinstance(view["data"], bytearray) else bytearray(view["data"])  # writable either way
        tensors[name] = np.frombuffer(memory, dtype).reshape(view["shape"])
    if _content_digest(tensors, noted["meta"]) != noted.get("sha256"):
        raise CheckpointError(
            f"{path} is damaged: its content does not have the sha256 noted inside when it was saved."
        )
    return tensors, json.loads(noted["meta"])
