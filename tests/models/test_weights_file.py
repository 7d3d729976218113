"""Weights from local files: every usual wrapping, honest reports, and nothing in a file is ever run."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from reid_core.engine.checkpoint import CheckpointFolder
from reid_core.errors import CheckpointError, UsageError
from reid_core.models._weights import load_weights, read_state_dict

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch wonders about the odd files


class Backbone(nn.Module):
    def __init__(self, classes: int = 0, layers: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(layers))
        if classes:
            self.fc = nn.Linear(4, classes)


class Network(nn.Module):
    """A backbone in a network of ours: a prefix, a neck and another classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.neck = nn.Linear(4, 8)
        self.classifier = nn.Linear(8, 5)


OURS = ("neck", "classifier", "fc")


def source(seed: int = 1, **options: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return Backbone(1000, **options).state_dict()


def wrapped(kind: str, state: dict[str, Tensor]) -> Any:
    return {
        "plain": state,
        "OrderedDict": OrderedDict(state),
        "module.": {f"module.{k}": v for k, v in state.items()},
        "_orig_mod.module.": {f"_orig_mod.module.{k}": v for k, v in state.items()},
        "state_dict": {"epoch": 3, "state_dict": state, "arch": "resnet50"},
        "model": {"model": {f"module.{k}": v for k, v in state.items()}, "args": None},
        "nested": {"model": {"state_dict": state}},
        "backbone.": {f"backbone.{k}": v for k, v in state.items()},
        "encoder.": {f"encoder.{k}": v for k, v in state.items()},
    }[kind]


def same(network: Network, state: dict[str, Tensor]) -> bool:
    own = network.backbone.state_dict()
    return all(torch.equal(own[k], v) for k, v in state.items() if not k.startswith("fc."))


@pytest.mark.parametrize(
    "kind",
    ["plain", "OrderedDict", "module.", "_orig_mod.module.", "state_dict", "model", "nested", "backbone.", "encoder."],
)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".tar"])
def test_every_usual_wrapping(tmp_path: Path, kind: str, suffix: str) -> None:
    state = source()
    torch.save(wrapped(kind, state), tmp_path / f"w{suffix}")
    network = Network()
    new = {k: v.clone() for k, v in network.state_dict().items() if not k.startswith("backbone.")}
    report = load_weights(network.state_dict(), tmp_path / f"w{suffix}", OURS)
    assert same(network, state)
    assert all(torch.equal(network.state_dict()[k], v) for k, v in new.items())
    assert report.loaded == tuple(sorted(f"backbone.{k}" for k in state if not k.startswith("fc.")))
    assert (report.missing, report.mismatched, report.unexpected) == ((), (), ())
    assert report.classifier == ("classifier.bias", "classifier.weight", "neck.bias", "neck.weight")
    assert "new layers keep their own values (classifier.bias, classifier.weight, neck.bias" in report.summary()


def test_safetensors_and_older_formats(tmp_path: Path) -> None:
    state = source()
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    for file in ("a.safetensors", "b.pth"):
        network = Network()
        load_weights(network.state_dict(), tmp_path / file, OURS)
        assert same(network, state)


def test_half_precision_is_cast(tmp_path: Path) -> None:
    state = {k: v.bfloat16() if v.is_floating_point() else v for k, v in source().items()}
    save_file(state, tmp_path / "a.safetensors")
    network = Network()
    load_weights(network.state_dict(), tmp_path / "a.safetensors", OURS)
    assert network.backbone.conv1.weight.dtype == torch.float32
    assert torch.equal(network.backbone.conv1.weight, state["conv1.weight"].float())


def test_network_0_of_a_checkpoint_of_ours(tmp_path: Path) -> None:
    torch.manual_seed(3)
    nets = [Network(), Network()]
    arrays = {f"net{i}.{k}": v.numpy() for i, net in enumerate(nets) for k, v in net.state_dict().items()}
    CheckpointFolder(tmp_path).save({**arrays, "memory.conv1.weight": np.zeros(3)}, {"epoch": 1})
    network = Network()
    report = load_weights(network.state_dict(), tmp_path / "last.safetensors", OURS)
    assert all(torch.equal(v, nets[0].state_dict()[k]) for k, v in network.state_dict().items())
    assert (report.missing, report.unexpected, report.classifier) == ((), (), ())


def test_classifier_of_other_size_is_left_and_of_the_same_size_loaded(tmp_path: Path) -> None:
    torch.save(source(), tmp_path / "w.pth")
    other, equal = Backbone(7), Backbone(1000)
    own = other.fc.weight.clone()
    report = load_weights(other.state_dict(), tmp_path / "w.pth")
    assert report.classifier == ("fc.bias", "fc.weight")
    assert torch.equal(other.fc.weight, own)
    assert load_weights(equal.state_dict(), tmp_path / "w.pth").classifier == ()
    assert torch.equal(equal.fc.weight, source()["fc.weight"])


def test_a_few_differences_are_reported(tmp_path: Path) -> None:
    state = source(layers=20)
    del state["layers.3.bias"]
    state["layers.4.bias"] = torch.zeros(9)
    state["extra"] = torch.zeros(2)
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}  # as old files have it
    torch.save(state, tmp_path / "w.pth")
    report = load_weights(Backbone(layers=20).state_dict(), tmp_path / "w.pth")
    assert report.missing == ("bn1.num_batches_tracked", "layers.3.bias")
    assert report.mismatched == (("layers.4.bias", (9,), (4,)),)
    assert report.unexpected == ("extra",)
    assert "2 not in the file (bn1.num_batches_tracked, layers.3.bias)" in report.summary()


def test_too_little_is_an_error_with_the_closest_names_and_changes_nothing(tmp_path: Path) -> None:
    state = {k.replace("layers.", "layer_"): v for k, v in source().items()}
    state["conv1.weight"] = torch.zeros(4, 3, 7, 7)
    torch.save(state, tmp_path / "w.pth")
    network = Backbone()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(network.state_dict(), tmp_path / "w.pth")
    message = str(caught.value)
    assert "4 of its 13 weights are in the file, at least 90% must be" in message
    assert "layers.0.bias is not in the file (closest: layer_0.bias)" in message
    assert "conv1.weight is 4 x 3 x 7 x 7 in the file, 4 x 3 x 3 x 3 in the network" in message
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    state = source()
    state["layers.3.weight"][1, 2] = value
    torch.save(state, tmp_path / "w.pth")
    network = Backbone()
    before = network.conv1.weight.clone()
    with pytest.raises(CheckpointError, match=r"layers.3.weight' holds NaN or infinity"):
        load_weights(network.state_dict(), tmp_path / "w.pth")
    assert torch.equal(network.conv1.weight, before)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "holds a list"),
        ({"epoch": 3}, "holds no weights: its entries are epoch"),
        ({}, "its entries are none"),
        ({"conv1.weight": torch.zeros(2, 2).to_sparse()}, "sparse"),
        ({"conv1.weight": torch.empty(2, device="meta")}, "empty"),
        (np.zeros(3), "more than tensors"),
        (nn.Linear(1, 1), "more than tensors"),
    ],
)
def test_files_that_hold_no_weights(tmp_path: Path, content: Any, says: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=says):
        load_weights(Backbone().state_dict(), tmp_path / "w.pth")


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    torch.save(source(), tmp_path / "w.pth")
    save_file(source(), tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        whole = (tmp_path / name).read_bytes()
        for cut in (0, 1, 7, 100, len(whole) // 2, len(whole) - 1):
            (tmp_path / f"cut-{name}").write_bytes(whole[:cut])
            with pytest.raises(CheckpointError, match=f"cut-{name}"):
                load_weights(Backbone().state_dict(), tmp_path / f"cut-{name}")
    with pytest.raises(UsageError, match="no file"):
        load_weights({}, tmp_path / "no.pth")
    (tmp_path / "w.onnx").write_bytes(b"")
    with pytest.raises(UsageError, match=r"'.onnx'; known are .safetensors, .pth"):
        load_weights({}, tmp_path / "w.onnx")


class Gadget:
    """Unpickling it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> Any:
        return open, (self.canary, "w")


class Rebuilt(Gadget):
    """The same by way of a name that torch trusts: ``torch._utils`` code with a gadget among its arguments."""

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_parameter, (Gadget(Path(self.canary)), False, OrderedDict())


def gadget_files(canary: Path) -> dict[str, bytes]:
    evil = pickle.dumps(Gadget(canary))

    def saved(value: Any, **options: Any) -> bytes:
        file = io.BytesIO()
        torch.save(value, file, **options)
        return file.getvalue()

    zipped, tarred, npz = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:  # TorchScript: torch.load turns to torch.jit.load for these
        for name, data in {
            "data.pkl": evil,
            "constants.pkl": evil,
            "code/x.py": b"open('x')",
            "version": b"3\n",
        }.items():
            archive.writestr(f"archive/{name}", data)
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        for name in ("storages", "tensors", "pickle"):
            info = tarfile.TarInfo(name)
            info.size = len(evil)
            tar.addfile(info, io.BytesIO(evil))
    np.savez(npz, conv1=np.array([Gadget(canary)], dtype=object))
    return {
        "zip": saved({"x": Gadget(canary), "conv1.weight": torch.zeros(1)}),
        "zip, nested in what torch trusts": saved({"conv1.weight": Rebuilt(canary)}),
        "legacy": saved({"x": Gadget(canary)}, _use_new_zipfile_serialization=False),
        "plain pickle": evil,
        "tar": tarred.getvalue(),
        "torchscript": zipped.getvalue(),
        "joblib, compressed": zlib.compress(evil),
        "npz": npz.getvalue(),
        "safetensors header": struct.pack("<Q", len(evil)) + evil,
    }


def test_the_gadgets_are_armed(tmp_path: Path) -> None:
    files = gadget_files(tmp_path / "canary")
    assert len(files) >= 8
    for kind in ("plain pickle", "zip"):
        stream = io.BytesIO(files[kind])
        if kind == "zip":
            with zipfile.ZipFile(stream) as archive:
                name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
                stream = io.BytesIO(archive.read(name))
        unpickler = pickle.Unpickler(stream)  # noqa: S301
        unpickler.persistent_load = lambda _: torch.zeros(1).untyped_storage()  # type: ignore[method-assign]
        try:
            unpickler.load()
        except Exception:  # the rest of the file does not matter once the canary is there
            pass
        assert (tmp_path / "canary").exists()
        (tmp_path / "canary").unlink()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", list(gadget_files(Path("x"))))
def test_nothing_in_a_file_is_run(tmp_path: Path, kind: str, suffix: str) -> None:
    file = tmp_path / f"w{suffix}"
    file.write_bytes(gadget_files(tmp_path / "canary")[kind])
    with pytest.raises(CheckpointError):
        load_weights(Backbone().state_dict(), file)
    with pytest.raises(CheckpointError):
        read_state_dict(file)
    assert not (tmp_path / "canary").exists()


def test_torchvision_and_timm_call_the_weights_of_resnets_alike(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torchvision = pytest.importorskip("torchvision")
    torch.save(torchvision.models.resnet18(num_classes=10).state_dict(), tmp_path / "w.pth")
    report = load_weights(timm.create_model("resnet18", num_classes=0).state_dict(), tmp_path / "w.pth")
    assert (report.missing, report.mismatched, report.unexpected) == ((), (), ())
    with pytest.raises(CheckpointError, match="another --arch"):
        load_weights(timm.create_model("resnet34", num_classes=0).state_dict(), tmp_path / "w.pth")
