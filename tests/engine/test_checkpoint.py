"""What goes in comes out; damage is detected; nothing in a file is ever run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reid_core.engine._encoding import decode, encode
from reid_core.engine.checkpoint import CheckpointFolder, read_checkpoint, read_weights
from reid_core.engine.run_folder import read_records, read_status
from reid_core.errors import CheckpointError
from reid_core.files import TMP_SUFFIX, read_lines

DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">f4", ">i8"]


def save(folder: Path, number: int, **more: Any) -> CheckpointFolder:
    checkpoints = CheckpointFolder(folder)
    checkpoints.save({"net0.weight": np.full((2, 3), number, np.float32)}, {"epoch": number}, **more)
    return checkpoints


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_array_and_any_metadata_come_back(data: st.DataObject) -> None:
    names = st.text(min_size=1, max_size=5).filter(lambda n: n != "__metadata__")
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    tensors = data.draw(
        st.dictionaries(names, st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(d, shapes)), max_size=4)
    )
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3),
        max_leaves=5,
    )
    meta = data.draw(st.dictionaries(names, values, max_size=4))
    back, back_meta = decode(encode(tensors, meta), Path("x"))
    assert back.keys() == tensors.keys()
    for name, array in tensors.items():
        assert back[name].shape == array.shape
        assert back[name].dtype == array.dtype.newbyteorder("=")
        assert back[name].tobytes() == array.astype(array.dtype.newbyteorder("<"), order="C").tobytes()
        assert back[name].flags.writeable
    assert repr(back_meta) == repr(meta)  # NaN is not equal to itself
    assert encode(tensors, meta) == encode(tensors, meta)


def test_strided_arrays_are_stored_as_they_read(tmp_path: Path) -> None:
    array = np.arange(12.0).reshape(3, 4)
    checkpoints = CheckpointFolder(tmp_path)
    checkpoints.save({"t": array.T, "s": array[::2, ::-1]}, {})
    assert checkpoints.load().tensors["t"].tolist() == [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]
    assert checkpoints.load().tensors["s"].tolist() == [[3, 2, 1, 0], [11, 10, 9, 8]]


def test_names_rotation_and_index(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2, also=["phase_0"])
    checkpoints = save(tmp_path, 3)
    checkpoints.save_as("best", {"x": np.zeros(1)}, {"epoch": 2})
    assert checkpoints.names() == ["best", "last", "phase_0", "previous"]
    assert [checkpoints.load(n).meta["epoch"] for n in checkpoints.names()] == [2, 3, 2, 2]
    index = json.loads((tmp_path / "index.json").read_text())["files"]
    for name in checkpoints.names():
        assert index[name]["sha256"] == hashlib.sha256(checkpoints.path(name).read_bytes()).hexdigest()
    assert not list(tmp_path.glob(f"*{TMP_SUFFIX}"))


def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    save(tmp_path, 1)
    checkpoints = save(tmp_path, 2, also=["phase_0"])
    assert [checkpoints.load(n).meta["epoch"] for n in ("last", "previous", "phase_0")] == [2, 1, 2]


@pytest.mark.parametrize(
    ("tensors", "meta", "says"),
    [
        ({"x": [1.0]}, {}, "NumPy array"),
        ({"x": np.array(["a"])}, {}, "dtype"),
        ({"x": np.array([{}], dtype=object)}, {}, "dtype object"),
        ({"x": np.zeros(1, np.complex64)}, {}, "complex64"),
        ({}, {"x": np.zeros(2)}, "arrays go to the tensors"),
        ({"__metadata__": np.zeros(1)}, {}, "for itself"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_written(
    tmp_path: Path, tensors: Any, meta: Any, says: str
) -> None:
    with pytest.raises(TypeError, match=says):
        CheckpointFolder(tmp_path).save(tensors, meta)
    assert not list(tmp_path.iterdir())


def flips(data: bytes, number: int) -> list[bytes]:
    rng = random.Random(1)
    out = []
    for place in [0, 7, 8, len(data) - 1, *(rng.randrange(len(data)) for _ in range(number - 4))]:
        damaged = bytearray(data)
        damaged[place] ^= rng.randrange(1, 256)
        out.append(bytes(damaged))
    return out


def test_one_byte_changed_at_200_places_is_detected_and_previous_serves(tmp_path: Path) -> None:
    save(tmp_path, 1)
    checkpoints = save(tmp_path, 2)
    good = checkpoints.path("last").read_bytes()
    detected = 0
    for damaged in flips(good, 200):
        checkpoints.path("last").write_bytes(damaged)
        found = checkpoints.load()
        detected += found.name == "previous" and found.meta == {"epoch": 1}
        assert found.fell_back is not None
        assert "last.safetensors is damaged" in found.fell_back
        assert "previous.safetensors" in found.fell_back
    assert detected == 200


def test_a_lone_file_is_verified_by_its_own_checksum(tmp_path: Path) -> None:
    good = save(tmp_path, 1).path("last").read_bytes()
    file = tmp_path / "copied.safetensors"
    changed = 0
    for damaged in [*flips(good, 200), *(good[:k] for k in range(0, len(good), 29)), good + b"\0"]:
        file.write_bytes(damaged)
        try:
            found = read_checkpoint(file)
        except CheckpointError as error:
            assert str(file) in str(error)
            continue
        # Blanks that pad the header are the only bytes that mean nothing.
        changed += found.tensors["net0.weight"].tolist() != [[1] * 3] * 2 or found.meta != {"epoch": 1}
    assert changed == 0


def test_both_damaged(tmp_path: Path) -> None:
    save(tmp_path, 1)
    checkpoints = save(tmp_path, 2, also=["phase_0"])
    for name in ("last", "previous"):
        checkpoints.path(name).unlink()
        checkpoints.path(name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"last.safetensors is damaged.*previous.safetensors is damaged.*phase_0"):
        checkpoints.load()
    assert checkpoints.load("phase_0").meta == {"epoch": 2}


def test_a_damaged_last_is_not_rotated_over_a_good_previous(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2).path("last").write_bytes(b"rot")
    checkpoints = save(tmp_path, 3)
    assert checkpoints.load().meta == {"epoch": 3}
    assert checkpoints.load("previous").meta == {"epoch": 1}


@pytest.mark.parametrize("index", [None, b"", b"{", b"[]", b'{"files": 3}', b'{"files": {"last": 3}}', b"\xff\xfe"])
def test_without_an_index_the_files_own_checksums_serve(
    tmp_path: Path, index: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1)
    checkpoints = save(tmp_path, 2)
    (tmp_path / "index.json").unlink()
    if index is not None:
        (tmp_path / "index.json").write_bytes(index)
    assert checkpoints.load().meta == {"epoch": 2}
    assert "no entry" in caplog.text
    assert save(tmp_path, 3).load("previous").meta == {"epoch": 2}


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Nothing has been saved"):
        CheckpointFolder(tmp_path / "no").load()
    save(tmp_path, 1, also=["phase_0"])
    with pytest.raises(CheckpointError, match=r"phase_1.safetensors is not there.*phase_0"):
        CheckpointFolder(tmp_path).load("phase_1")
    with pytest.raises(ValueError, match="letters"):
        CheckpointFolder(tmp_path).load("../last")


def test_a_reader_beside_a_writer_never_sees_a_torn_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader reads the index, then a whole save passes, then it reads the file: it must look again."""
    save(tmp_path, 1)
    reader = CheckpointFolder(tmp_path)
    real = reader._index_bytes
    numbers = iter([2, 3])

    def late() -> bytes:
        index = real()
        for number in numbers:
            save(tmp_path, number)
            break
        return index

    monkeypatch.setattr(reader, "_index_bytes", late)
    found = reader.load()
    assert (found.name, found.fell_back) == ("last", None)


def test_weights_of_one_network(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path)
    checkpoints.save({"net0.a": np.zeros(1), "net1.a": np.ones(1), "net10.a": np.ones(1), "memory": np.zeros(9)}, {})
    file = (tmp_path / "last.safetensors").rename(tmp_path / "elsewhere.safetensors")
    assert {k: float(v[0]) for k, v in read_weights(file, 1).items()} == {"a": 1.0}
    assert sorted(read_weights(file, None)) == ["net0.a", "net1.a", "net10.a"]
    with pytest.raises(CheckpointError, match="no network 2; it has 0, 1, 10"):
        read_weights(file, 2)


def test_foreign_safetensors_file(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="--weights"):
        read_weights(tmp_path / "a.safetensors", None)


class Gadget:
    """Unpickling it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> Any:
        return open, (self.canary, "w")


def gadget_files(canary: Path) -> dict[str, bytes]:
    """Eight kinds of file that run code in a reader that unpickles."""
    evil = pickle.dumps(Gadget(canary))
    array = np.array([Gadget(canary)], dtype=object)
    npy, npz, zipped, tarred = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, array)
    np.savez(npz, loss=array)
    with zipfile.ZipFile(zipped, "w") as archive:  # what torch.save writes
        archive.writestr("archive/data.pkl", evil)
        archive.writestr("archive/version", "3\n")
    with tarfile.open(fileobj=tarred, mode="w") as tar:  # what it wrote at first
        info = tarfile.TarInfo("pickle")
        info.size = len(evil)
        tar.addfile(info, io.BytesIO(evil))
    magic = pickle.dumps(0x1950A86A20F9469CFC6C) + pickle.dumps(1001) + pickle.dumps({"little_endian": True})
    header = json.dumps({"__metadata__": {"reid_core": json.dumps({"format": 1, "meta": evil.hex()})}}).encode()
    return {
        "plain pickle": evil,
        "npy": npy.getvalue(),
        "npz": npz.getvalue(),
        "torch zip": zipped.getvalue(),
        "torch legacy": magic + evil,
        "torch tar": tarred.getvalue(),
        "joblib, compressed": zlib.compress(evil),
        "safetensors with a pickle in it": struct.pack("<Q", len(header)) + header + evil,
    }


def test_the_gadgets_are_armed(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    pickle.Unpickler(io.BytesIO(gadget_files(canary)["plain pickle"])).load().close()  # noqa: S301
    assert canary.exists()


@pytest.mark.parametrize("kind", list(gadget_files(Path("x"))))
def test_nothing_in_a_file_is_run(tmp_path: Path, kind: str) -> None:
    canary = tmp_path / "canary"
    data = gadget_files(canary)[kind]
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    digest = hashlib.sha256(data).hexdigest()
    file = folder / "last.safetensors"
    for name in ("last.safetensors", "epoch_000.npz", "metrics.jsonl", "status.json"):
        (folder / name).write_bytes(data)
    (folder / "index.json").write_text(json.dumps({"files": {"last": {"sha256": digest}}}))
    readers: list[Callable[[], object]] = [
        CheckpointFolder(folder).load,
        lambda: read_checkpoint(file),
        lambda: read_weights(file, 0),
        lambda: read_records(folder / "epoch_000.npz"),
        lambda: read_lines(folder / "metrics.jsonl"),
    ]
    for reader in readers[:4]:
        with pytest.raises(CheckpointError):
            reader()
    try:
        readers[4]()
    except CheckpointError:
        pass  # unless the bytes hold no newline: then there is only a torn line
    assert read_status(folder) == {}
    assert not canary.exists()


def test_torch_is_not_imported() -> None:
    modules = "reid_core.engine.run_folder, reid_core.engine.checkpoint, reid_core.engine.signals"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60, check=False).returncode == 0
