"""``reid-core evaluate --rerank``, expansion and ROC: the figures change, and say what changed them."""

import json

import pytest
from test_train_command import TINY

from reid_core.cli._main import run


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_market):
    out = tmp_path_factory.mktemp("post")
    assert run(["train", "--data_dir", str(tiny_market), "--out", str(out), "--name", "r", *TINY]) == 0
    return ["evaluate", str(out / "r"), "--workers", "0"]


def test_json_says_what_was_applied(trained, capsys):
    found = {}
    for flags in ("", "--rerank --k1 4 --lambda-value 0.1", "--query_expansion 2", "--database_augmentation 1 --roc"):
        assert run([*trained, "--json", *flags.split()]) == 0
        found[flags] = json.loads(capsys.readouterr().out)
    plain, reranked, expanded, augmented = found.values()
    assert plain["post_processing"] is None and "roc" not in plain
    assert reranked["post_processing"] == {"rerank": {"k1": 4, "k2": 6, "lambda_value": 0.1}}
    assert expanded["post_processing"] == {"query_expansion": {"k": 2, "alpha": 0.0}}
    assert augmented["post_processing"] == {"database_augmentation": {"k": 1, "alpha": 0.0}}
    assert list(augmented["roc"]["tpr_at_fpr"]) == ["0.0001", "0.001", "0.01", "0.1"]
    assert augmented["roc"]["num_matches"] == 8  # 4 queries, two other cameras


def test_tables(trained, capsys):
    assert run([*trained, "--rerank", "--k1", "4", "--roc"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "after k-reciprocal re-ranking (k1 4, k2 6, lambda_value 0.3)"
    assert "rank-1" in lines[1] and lines[3].startswith("network 0")
    head = next(i for i, line in enumerate(lines) if line.startswith("TPR at FPR"))
    assert lines[head].split()[3:] == ["0.0001", "0.001", "0.01", "0.1"]
    assert lines[-1] == "percent of 8 matching pairs, at rates of 40 others"


def test_numbers_of_a_re_ranking_that_was_not_asked_for(trained, capsys):
    assert run([*trained, "--k2", "3"]) == 2
    assert "--k2 belongs to --rerank" in capsys.readouterr().err
    assert run([*trained, "--expansion_alpha", "3"]) == 2
    assert "--expansion_alpha belongs to --query_expansion and --database_augm" in capsys.readouterr().err
    assert run([*trained, "--rerank", "--k1", "999"]) == 2
    assert "k1 must lie in [1, 17]" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--threads", "--batchsize", "--max_rank"])
def test_numbers_below_one_are_usage_errors(flag, tmp_path, capsys):
    assert run(["evaluate", str(tmp_path), flag, "0"]) == 2
    assert f"{flag} must be" in capsys.readouterr().err
