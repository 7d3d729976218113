"""Two real processes share a gallery and get the bits of one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reid_core.metrics._shards import Shards
from reid_core.metrics.embeddings import rank_metrics_from_embeddings

PROJECT = Path(__file__).resolve().parents[2]
CHILD = """
import json, sys
import numpy as np
import torch.distributed as distributed
from reid_core.metrics.embeddings import rank_metrics_from_embeddings

distributed.init_process_group("gloo")
data = np.load(sys.argv[1])
data = [data[name] for name in ("q", "g", "qp", "gp", "qc", "gc")]
if sys.argv[3] == "device":
    import torch
    from reid_core.metrics import _device_tiles, _tensors
    _tensors.WORKS_ON, _device_tiles.TILE = {"cpu"}, 1024
    data[:2] = (torch.from_numpy(side) for side in data[:2])
ticks = []
result = rank_metrics_from_embeddings(
    *data, memory=sys.argv[2], threads=2,
    progress=lambda done, total: ticks.append((done, total)),
)
body = {name: getattr(result, name).tolist() for name in ("cmc", "ap", "ap_trapezoid", "inp", "first_hit")}
print(json.dumps({**body, "tie_share": result.tie_share, "ticks": len(ticks), "total": ticks[-1][1]}))
distributed.destroy_process_group()
"""


def two_processes(code, arguments, expected=0):
    """(exit status, stdout, stderr) of each of two processes that know each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    there = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**there, "RANK": str(rank)},
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    done = [(*process.communicate(timeout=300), process.returncode) for process in processes]
    assert [status for *_, status in done] == [expected] * 2, done
    return [(status, out, err) for out, err, status in done]


# On the CPU three tiles of 768 queries, five of 512 images without junk: three for one process, two for the other. In the
# device's way two tiles of 1,024 queries, which are two passes, over three of the gallery.
@pytest.mark.parametrize(
    ("memory", "where", "ticks"), [("256MB", "array", [9, 6]), ("1B", "array", [9, 6]), ("1B", "device", [4, 2])]
)
def test_two_processes_get_the_bits_of_one(memory, where, ticks, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    data = {
        "q": np.round(rng.normal(size=(1800, 6)), 1).astype(np.float32) + 0.05,
        "g": np.round(rng.normal(size=(2600, 6)), 1).astype(np.float32) + 0.05,
        "qp": rng.integers(0, 30, 1800),
        "gp": rng.integers(-1, 40, 2600),
        "qc": rng.integers(0, 4, 1800),
        "gc": rng.integers(0, 4, 2600),
    }
    np.savez(tmp_path / "data.npz", **data)
    sides = data["q"], data["g"]
    if where == "device":
        torch = pytest.importorskip("torch")
        from reid_core.metrics import _device_tiles, _tensors

        monkeypatch.setattr(_tensors, "WORKS_ON", {"cpu"})
        monkeypatch.setattr(_device_tiles, "TILE", 512)
        sides = [torch.from_numpy(side) for side in sides]
    expected = rank_metrics_from_embeddings(*sides, *list(data.values())[2:])
    found = [json.loads(out) for _, out, _ in two_processes(CHILD, [str(tmp_path / "data.npz"), memory, where])]
    for result in found:
        for name in ("cmc", "ap", "ap_trapezoid", "inp", "first_hit"):
            np.testing.assert_array_equal(np.array(result[name], float), getattr(expected, name), err_msg=name)
        assert result["tie_share"] == expected.tie_share > 0
        assert result["ticks"] == result["total"]
    assert [result["ticks"] for result in found] == ticks


UNLIKE = """
import sys
import numpy as np
import torch.distributed as distributed
from reid_core.metrics.embeddings import rank_metrics_from_embeddings

distributed.init_process_group("gloo")
second = distributed.get_rank() == 1
for what in ("memory", "identities", "nan", "far"):
    rng = np.random.default_rng(0)
    q, g = rng.normal(size=(900, 4)).astype(np.float32), rng.normal(size=(1100, 4)).astype(np.float32)
    ids, more = [np.arange(900) % 5, np.arange(1100) % 5, np.zeros(900, int), np.ones(1100, int)], {}
    if second and what == "memory":
        more["memory"] = "3MB"
    if second and what == "identities":
        ids[1] = (ids[1] + 1) % 5
    if second and what == "nan":
        q[7] = np.nan
    if what == "far":  # too far for float32 from a gallery image that only the second process looks at
        g = g.astype(np.float64)
        ids[1][600:], g[600, 0] = 99, 1e39
        more["metric"] = "euclidean"
    try:
        rank_metrics_from_embeddings(q, g, *ids, **more)
        print("nothing")
    except Exception as error:
        print(type(error).__name__, error)
distributed.destroy_process_group()
"""


def test_what_fails_in_one_process_is_an_error_in_both():
    expected = (
        (
            "UsageError memory must be the same in all processes, got 256000000 in process 0 and 3000000 in process 1",
            "UsageError memory must be the same in all processes, got 3000000 in process 1 and 256000000 in process 0",
        ),
        ("UsageError identities and cameras must be the same",) * 2,
        (
            "NumericalError process 1 of 2 stopped: the embedding of query image 7",
            "NumericalError the embedding of query image 7",
        ),
        (
            "NumericalError process 1 of 2 stopped: the distance of query",
            "NumericalError the distance of query image 0",
        ),
    )
    for rank, (_, out, err) in enumerate(two_processes(UNLIKE, [])):
        lines = out.splitlines()
        assert len(lines) == len(expected), out + err
        for line, words in zip(lines, expected):
            assert line.startswith(words[rank]), out + err


def test_shares_cover_the_gallery_once():
    for world in (1, 2, 3, 7):
        shares = [list(Shards(rank, world).mine(range(10))) for rank in range(world)]
        assert sorted(sum(shares, [])) == list(range(10))


def test_alone_nothing_is_exchanged():
    values = np.arange(3.0)
    Shards.here().add_up(values)
    assert values.tolist() == [0, 1, 2]
