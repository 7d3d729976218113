"""``reid-core prepare`` and the tool of a checkout: what they show, what they refuse, and that they go on."""

import json
import subprocess
import sys

import pytest
from conftest import PROJECT
from released_market import MARKET, TREE, fill, images, tree

from reid_core.cli import _main


def run(*argv: object) -> int:
    return _main.run([str(word) for word in argv])


def test_command(tmp_path, capsys):
    src, out = fill(tmp_path / "src", MARKET), tmp_path / "out"
    assert run("prepare", "market1501", src, out) == 0
    shown = capsys.readouterr()
    assert ["train_all", "6", "3", "12,936", "751", "differs"] in [line.split() for line in shown.out.splitlines()]
    assert "warning: the counts of train_all, train, val, query, gallery, multi-query" in shown.err
    assert run("prepare", "market1501", src, out, "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["counts"]["train"] == {"images": 4, "identities": 3}
    assert "complete already; nothing was changed" in shown.err


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("prepare", "market1501", "SRC"), 2),
        (("prepare", "market1501", "SRC", "OUT", "x"), 2),
        (("prepare", "market1501", "SRC", "OUT", "--ids", "3"), 2),
        (("prepare", "market1501", "SRC", "OUT", "--images", "labeled"), 2),
        (("prepare", "market1501", "SRC", "OUT", "--mode", "move"), 2),  # no terminal to ask at
        (("prepare", "markt1501", "SRC", "OUT"), 2),
        (("prepare", "market1501", "SRC/query", "OUT"), 3),
    ],
)
def test_command_mistakes(tmp_path, capsys, argv, code):
    src, out = fill(tmp_path / "src", MARKET), tmp_path / "out"
    assert run(*(a.replace("SRC", str(src)).replace("OUT", str(out)) for a in argv)) == code
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("reid-core prepare: error: ") and shown.err.count("\n") == 1
    assert not out.exists() and tree(src) == MARKET


def test_command_moves_with_yes(tmp_path):
    src, out = fill(tmp_path / "src", MARKET), tmp_path / "out"
    assert run("prepare", "market1501", src, out, "--mode", "move", "--yes") == 0
    assert images(out) == TREE


def test_tool(tmp_path):
    """The script of a checkout, from another folder, with a disk that takes no more: exit 4, then on to the end."""
    src, out = fill(tmp_path / "src", {**MARKET, "query/0001_c3s1_1.jpg": bytes(200_000)}), tmp_path / "out"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
    tool = str(PROJECT / "tools/prepare_market1501.py")
    start = f"import runpy, sys; sys.argv = [{tool!r}, {str(src)!r}, {str(out)!r}]; runpy.run_path({tool!r}, run_name='__main__')"
    full = subprocess.run(
        [sys.executable, "-c", limit + start], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert full.returncode == 4, full.stderr
    assert "free some space" in full.stderr and "Traceback" not in full.stderr
    left = images(out)
    assert left and all(TREE[path] == data for path, data in left.items()), "what is there is whole"
    assert not (out / ".prepare.part").exists() and not (out / "manifest.csv").exists()
    done = subprocess.run([sys.executable, tool, src, out], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "train_all" in done.stdout, done.stderr
    assert images(out) == {**TREE, "query/0001/0001_c3s1_1.jpg": bytes(200_000)}


def test_synthetic_is_wired(tmp_path, monkeypatch, capsys):
    from types import SimpleNamespace

    from reid_core.cli import prepare as verb

    called = []
    fake = SimpleNamespace(write=lambda out, **given: called.append((out, given["ids"], given["seed"])))
    monkeypatch.setattr(verb, "resolve_name", lambda text: text)
    monkeypatch.setattr(verb.plugins, "load", lambda package, name: fake)
    assert run("prepare", "synthetic", tmp_path / "out", "--ids", 12, "--seed", 3) == 0
    assert called == [(tmp_path / "out", 12, 3)]
    for argv in (("extra", "--ids", 3), (), ("--ids", 3, "--mode", "move")):
        assert run("prepare", "synthetic", tmp_path / "out", *argv) == 2
    assert len(called) == 1 and "needs --ids" in capsys.readouterr().err
