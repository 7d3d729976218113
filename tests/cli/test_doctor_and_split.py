"""``reid-core doctor`` and ``reid-core split reid`` as they are typed."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from interrupted import interrupted_at_file
from PIL import Image

from reid_core.cli._main import run


def crop(seed: int) -> bytes:
    small = np.random.default_rng(seed).integers(0, 255, (4, 2, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(small).resize((16, 32), Image.Resampling.BICUBIC).save(out, "JPEG")
    return out.getvalue()


def crops(root: Path, ids: int = 6, cameras: int = 2, name: str = "{pid:04d}_c{camera}_é {i}.jpg") -> Path:
    seed = 0
    for pid in range(ids):
        folder = root / f"person {pid}"
        folder.mkdir(parents=True)
        for i in range(4):
            seed += 1
            (folder / name.format(pid=pid, camera=i % cameras + 1, i=i)).write_bytes(crop(seed))
    return root


def test_from_a_flat_folder_to_a_fit_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, out = crops(tmp_path / "my crops"), tmp_path / "data"
    assert run(["doctor", str(src)]) == 0
    shown = capsys.readouterr()
    assert "reid-core split reid" in shown.out and "looks like --dataset pid_folders" in shown.err

    assert run(["split", "reid", str(src), str(out), "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert not out.exists() and "nothing was changed" in shown.err
    assert [line.split() for line in shown.out.splitlines()[2:]] == [
        ["train", "12", "3"],
        ["query", "6", "3"],
        ["gallery", "6", "3"],
    ]

    assert run(["split", "reid", str(src), str(out)]) == 0
    assert run(["doctor", str(out)]) == 0
    shown = capsys.readouterr()
    assert "looks like --dataset manifest" in shown.err and "Nothing serious was found" in shown.out
    assert run(["doctor", str(out), "--dataset", "pid-folders", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["fit"] and report["counts"]["query"]["images"] == 6 and report["findings"] == []

    assert run(["split", "reid", str(src), str(out)]) == 2
    assert "--undo" in capsys.readouterr().err
    assert run(["split", "reid", str(out), "--undo"]) == 0
    assert not out.exists() and len(list(src.rglob("*.jpg"))) == 24


def test_without_cameras(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, out = crops(tmp_path / "crops", name="{i}.jpg"), tmp_path / "data"
    assert run(["split", "reid", str(src), str(out), "--test_ids", "2", "--queries_per_id", "2", "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["protocol"] == "any-camera" and numbers["query"] == {"images": 4, "identities": 2}
    assert run(["doctor", str(out)]) == 0
    assert run(["doctor", str(out), "--protocol", "market1501"]) == 3
    assert "--protocol any-camera" in capsys.readouterr().out


def test_manifest_mode_touches_no_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = crops(tmp_path / "crops")
    before = sorted(p.name for p in src.rglob("*"))
    assert run(["split", "reid", str(src), str(src / "manifest.csv"), "--mode", "manifest"]) == 0
    assert sorted(p.name for p in src.rglob("*")) == sorted([*before, "manifest.csv"])
    assert run(["doctor", str(src)]) == 0
    assert "--dataset manifest" in capsys.readouterr().err


def test_links_need_leave_to_be_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, out = crops(tmp_path / "crops"), tmp_path / "data"
    assert run(["split", "reid", str(src), str(out), "--mode", "symlink"]) == 0
    assert f"doctor {out} --allow_outside" in capsys.readouterr().err
    assert run(["doctor", str(out)]) == 3
    assert "--allow_outside" in capsys.readouterr().err
    assert run(["doctor", str(out), "--allow-outside"]) == 0
    assert run(["doctor", str(out), "--dataset", "pid_folders"]) == 0
    assert run(["doctor", str(out), "--dataset", "pid_folders", "--allow_outside"]) == 2


def test_move_asks(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    src, out = crops(tmp_path / "crops"), tmp_path / "data"
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))  # no terminal: an answer that nobody gave does not count
    assert run(["split", "reid", str(src), str(out), "--mode", "move"]) == 2
    assert "--yes" in capsys.readouterr().err and not out.exists()
    assert run(["split", "reid", str(src), str(out), "--mode", "move", "--yes"]) == 0
    assert list(src.rglob("*.jpg")) == [] and len(list(out.rglob("*.jpg"))) == 24
    assert run(["split", "reid", str(src), str(out), "--undo"]) == 0
    assert len(list(src.rglob("*.jpg"))) == 24


def test_going_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, out = crops(tmp_path / "crops"), tmp_path / "data"
    words = ["split", "reid", str(src), str(out), "--mode", "move", "--yes", "--seed", "3"]
    with interrupted_at_file(9):
        assert run(words) == 130
    assert run([*words[:-1], "4"]) == 2
    assert "repeat that command" in capsys.readouterr().err
    assert run(words) == 0
    assert "24 images" in capsys.readouterr().err
    assert len(list(out.rglob("*.jpg"))) == 24 and run(["doctor", str(out)]) == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["split"], 2, "KIND"),
        (["split", "ried", "a", "b"], 2, "ried"),
        (["split", "reid", "{src}"], 2, "OUT"),
        (["split", "reid", "{src}", "{src}/in"], 2, "lie in one another"),
        (["split", "reid", "{src}", "{tmp}/new", "--test_ids", "2.0"], 2, "share"),
        (["split", "reid", "{src}", "{tmp}/new", "--test_ids", "7"], 3, "only 6 have at least two cameras"),
        (["split", "reid", "{src}", "{tmp}/new", "--queries_per_id", "2"], 2, "without cameras"),
        (["split", "reid", "{src}", "{tmp}/new", "--dataset", "pidfolder"], 2, "pid_folders"),
        (["split", "reid", "{tmp}/none", "{tmp}/new"], 3, "none"),
        (["split", "reid", "{src}", "--undo"], 3, "no split that could be undone"),
        (["doctor", "{tmp}/none"], 3, "no such file or folder"),
        (["doctor", "{tmp}/empty"], 3, "none of the known layouts"),
        (["doctor", "{src}", "--protocol", "x"], 2, "any-camera"),
        (["doctor", "{src}", "--workers", "-1"], 2, "workers"),
    ],
)
def test_mistakes(
    words: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    src = crops(tmp_path / "src")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    try:
        assert run([word.format(src=src, tmp=tmp_path) for word in words]) == code
    except SystemExit as error:
        assert error.code == code
    error_text = capsys.readouterr().err
    assert message in error_text and "Traceback" not in error_text
    assert sorted(tmp_path.rglob("*")) == before


def test_traceback_may_stand_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["split", "--traceback", "reid"], ["split", "reid", "--traceback"]):
        assert run([*words, str(tmp_path / "none"), str(tmp_path / "new")]) == 3
        assert "Traceback" in capsys.readouterr().err


def test_fifty_planted_duplicates_are_all_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = crops(tmp_path / "src", ids=60)
    for pid in range(50):
        shutil.copy(src / f"person {pid}" / f"{pid:04d}_c1_é 0.jpg", src / f"person {pid + 1}" / f"copy{pid}_c2.jpg")
    assert run(["doctor", str(src), "--json"]) == 3
    findings = {f["code"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["duplicate_across_identities"]["count"] == 50
    assert all(
        any(
            f"copy{pid}_c2.jpg" in e and f"{pid:04d}_c1_é 0.jpg" in e
            for e in findings["duplicate_across_identities"]["examples"]
        )
        for pid in range(50)
    )


def test_escapes_in_names_are_shown_not_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = crops(tmp_path / "src")
    (src / "person 0" / "\x1b[2J\n[INFO] fake_c1.jpg").write_bytes(b"")
    (src / "person 1" / "half_c1.jpg").write_bytes(crop(99)[:200])
    assert run(["doctor", str(src)]) == 3
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert "\\x1b[2J\\n[INFO] fake_c1.jpg: it is empty (0 bytes)" in shown.out
    assert not any(line.startswith("[INFO]") for line in shown.out.splitlines())
    assert "half_c1.jpg: it is damaged or truncated" in shown.out


def test_a_warning_of_the_reader_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = crops(tmp_path / "src")
    (src / "person 0" / "plain.jpg").write_bytes(crop(99))
    assert run(["doctor", str(src)]) == 0
    assert "24 of 25 file names have a camera" in capsys.readouterr().err


def test_real_images_in_the_market_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = Path(os.environ.get("REID_CORE_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
    if not (data / "omniglot-reid.zip").is_file():
        pytest.skip("no omniglot-reid.zip: set REID_CORE_TEST_DATA")
    with zipfile.ZipFile(data / "omniglot-reid.zip") as archive:
        archive.extractall(tmp_path)
    assert run(["doctor", str(tmp_path / "Omniglot-ReID"), "--json"]) in (0, 3)
    report = json.loads(capsys.readouterr().out)
    assert report["dataset"] == "market1501"
    assert [report["counts"][part]["images"] for part in ("train", "query", "gallery")] == [1720, 276, 784]
    assert report["counts"]["gallery"]["junk"] == 60 and report["counts"]["gallery"]["distractors"] == 80
    codes = {f["code"] for f in report["findings"] if f["level"] == "serious"}
    assert codes <= {"duplicate_across_identities"}  # junk and distractors are no identities
