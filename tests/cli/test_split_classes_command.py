"""``reid-core split classes`` and ``tools/split_dataset.py`` as they are typed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from interrupted import interrupted_at_file
from PIL import Image

from reid_core.cli._main import run

PROJECT = Path(__file__).resolve().parents[2]


def photos(root: Path, **counts: int) -> Path:
    seed = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            seed += 1
            pixels = np.random.default_rng(seed).integers(0, 255, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.jpg")
    return root


def test_from_class_folders_to_a_fit_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, out = photos(tmp_path / "photos", cat=10, dog=4, fox=1), tmp_path / "data"
    (src / "cat" / "notes.txt").write_text("mine")
    assert run(["split", "classes", str(src), str(out), "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert not out.exists() and "nothing was changed" in shown.err and "cat/notes.txt" in shown.err
    assert "1 classes have too few images" in shown.err and "MB will be copied" in shown.err
    rows = [line.split() for line in shown.out.splitlines()[2:]]
    assert rows == [
        ["all", "3", "classes", "13", "2"],
        ["fox", "1", "0"],
        ["dog", "3", "1"],
        ["cat", "9", "1"],
    ]
    assert run(["split", "classes", str(src), str(out), "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert (numbers["train"], numbers["val"], numbers["others"]) == (13, 2, 1)
    assert numbers["classes"]["cat"] == {"train": 9, "val": 1} and numbers["bytes"] > 1000
    assert run(["split", "classes", str(src), str(out)]) == 2
    assert "--undo" in capsys.readouterr().err
    assert run(["split", "classes", str(out), "--undo"]) == 0
    assert not out.exists() and len(list(src.rglob("*.jpg"))) == 15


def test_the_minimum_and_the_seed_reach_the_plan(tmp_path: Path) -> None:
    src = photos(tmp_path / "photos", cat=10, dog=10)
    chosen = []
    for seed in ("0", "1"):
        out = tmp_path / seed
        assert run(["split", "classes", str(src), str(out), "--min-per-class", "4", "--seed", seed]) == 0
        chosen.append(sorted(str(path.relative_to(out)) for path in (out / "val_split").rglob("*.jpg")))
        assert len(chosen[-1]) == 8
    assert chosen[0] != chosen[1]
    assert run(["split", "classes", str(src), str(tmp_path / "half"), "--val", "0.5"]) == 0
    assert len(list((tmp_path / "half" / "val_split").rglob("*.jpg"))) == 10


def test_move_asks(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    src, out = photos(tmp_path / "photos", cat=10, dog=4), tmp_path / "data"
    words = ["split", "classes", str(src), str(out), "--mode", "move"]
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))  # no terminal: an answer that nobody gave does not count
    assert run(words) == 2
    assert "leaves the class folders" in capsys.readouterr().err and not out.exists()
    for answer in ("y\n", "Yes\n", "", "yes please\n"):
        typed = io.StringIO(answer)
        typed.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr("sys.stdin", typed)
        assert run(words) == 2
        assert not out.exists() and len(list(src.rglob("*.jpg"))) == 14
    typed = io.StringIO("yes\n")
    typed.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", typed)
    assert run(words) == 0
    assert list(src.rglob("*.jpg")) == [] and len(list(out.rglob("*.jpg"))) == 14
    assert run(["split", "classes", str(out), "--undo"]) == 0
    assert run([*words, "--yes"]) == 0
    assert list(src.rglob("*.jpg")) == []


def test_the_same_command_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, out = photos(tmp_path / "photos", cat=10, dog=4), tmp_path / "data"
    words = ["split", "classes", str(src), str(out), "--mode", "move", "--yes", "--val", "0.2"]
    with interrupted_at_file(6):
        assert run(words) == 130
    assert run([*words[:-1], "0.3"]) == 2
    assert "repeat that command" in capsys.readouterr().err
    assert run(words) == 0
    assert "14 images" in capsys.readouterr().err and len(list(out.rglob("*.jpg"))) == 14


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["{src}"], 2, "OUT"),
        (["{src}", "{src}/in"], 2, "lie in one another"),
        (["{src}", "{tmp}/new", "--val", "0"], 2, "in (0, 1)"),
        (["{src}", "{tmp}/new", "--val", "many"], 2, "many"),
        (["{src}", "{tmp}/new", "--mode", "teleport"], 2, "teleport"),
        (["{tmp}/none", "{tmp}/new"], 3, "not a folder"),
        (["{src}/cat", "{tmp}/new"], 3, "holds images itself"),
        (["{src}", "--undo"], 3, "no split that could be undone"),
        (["{src}", "--undo", "--dry_run"], 2, "--undo has no --dry_run"),
    ],
)
def test_mistakes(
    words: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    src = photos(tmp_path / "src", cat=3, dog=3)
    before = sorted(tmp_path.rglob("*"))
    try:
        assert run(["split", "classes", *(word.format(src=src, tmp=tmp_path) for word in words)]) == code
    except SystemExit as error:
        assert error.code == code
    error_text = capsys.readouterr().err
    assert message in error_text and "Traceback" not in error_text
    assert sorted(tmp_path.rglob("*")) == before


def test_the_script_is_the_command(tmp_path: Path) -> None:
    src, out = photos(tmp_path / "photos", cat=10, dog=4), tmp_path / "data"
    script = [sys.executable, str(PROJECT / "tools" / "split_dataset.py")]
    done = subprocess.run([*script, str(src), str(out), "--val", "0.2"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((out / "val_split").rglob("*.jpg"))) == 3
