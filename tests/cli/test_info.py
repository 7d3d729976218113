"""``reid-core info``: the same facts as text and as JSON, and a reason for whatever is missing."""

import json

import eval_lib
from reid_core import __version__
from reid_core.cli import _main, info


def test_json_is_one_object(capsys):
    assert _main.run(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"]["reid_core"] == __version__
    assert facts["devices"][0].startswith("cpu: ")
    assert facts["threads"]["processors"] >= 1
    assert set(facts) == {"versions", "compiled", "devices", "threads", "missing"}
    assert all(set(entry) == {"what", "why", "without"} and all(entry.values()) for entry in facts["missing"])


def test_text_shows_every_section(capsys):
    assert _main.run(["info"]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert [line for line in lines if line in ("versions", "compiled", "devices", "threads", "missing")] == [
        "versions",
        "compiled",
        "devices",
        "threads",
        "missing",
    ]


def test_a_missing_kernel_is_explained(capsys, monkeypatch):
    record = {"abi": "cp311-abi3", "built": {}, "skipped": {"eval_lib._rank": "g++ failed with exit code 1"}}
    monkeypatch.setattr(eval_lib, "why_missing", lambda name="": "g++ failed with exit code 1")
    monkeypatch.setattr(eval_lib, "build_record", lambda: record)
    assert _main.run(["info"]) == 0
    out = capsys.readouterr().out
    assert "eval_lib._rank: g++ failed with exit code 1; ranking runs in plain Python" in out
    assert "eval_lib._product: g++ failed with exit code 1; NumPy multiplies embeddings" in out
    assert "compiled\n  nothing" in out


def test_a_torch_that_cannot_be_imported_is_no_crash(monkeypatch):
    def broken(name):
        raise ImportError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(info.importlib, "import_module", broken)
    facts = info.collect()
    assert any(entry["what"] == "torch" and "libcudart" in entry["why"] for entry in facts["missing"])
    assert "devices" in info.render(facts)
