"""The train command: the reference's flags, where settings come from, and what a mistake gets."""

import argparse
import json
import shutil

import pytest
from conftest import PROJECT, write_tiny_market

from reid_core.cli import train
from reid_core.cli._main import run, same_dashes
from reid_core.engine.resolve import plan_of, resolve
from reid_core.errors import UsageError

TINY = (
    "--arch test_resnet --neck fc512 --neck_dim 16 --image_size 32 16 --batchsize 8 --workers 0 --threads 1 "
    "--schedule default --epochs 2 --switch 1 --lr 0.05 --device cpu"
).split()


def parsed(line):
    parser = argparse.ArgumentParser()
    train.configure(parser)
    config, _ = train.configuration(parser.parse_args(same_dashes(line.split())))
    return config


def test_the_reference_command_line_as_it_stands():
    config = resolve(
        parsed("--reference_defaults --dataset market --batchsize 32 --noise_ratio 0.2 --lr 0.01 --data_dir ../")
    )
    assert (config.method, config.schedule, config.neck, config.noise) == ("core", "reference", "fc512", "random")
    assert (config.lr, config.new_layer_mult, config.seed, config.noise_seed, config.flip) == (0.01, 10.0, 1, 1, True)
    plan = plan_of(config)
    assert (plan.epochs, plan.switch, plan.drops) == (61, 21, (20, 50))


def test_all_other_flags_of_the_reference():
    line = "--reference_defaults --dataset cuhk03 --seed 3 --gpu -1 --model_dir out --pattern --pattern_from clean"
    config = resolve(parsed(line))
    assert (config.dataset, config.seed, config.gpu, config.out) == ("cuhk03", 3, "-1", "out")
    assert config.noise == "patterned" and config.noise_ratio == 0.2
    assert parsed("--stage2 --from_self a b").from_self == ("a", "b")


def test_dashes_and_underscores_are_the_same():
    assert parsed("--noise-ratio 0.3 --no-flip --new-layer-mult 2").noise_ratio == 0.3
    assert parsed("--no-flip").flip is False and parsed("--no_flip").flip is False and parsed("").flip is None
    assert parsed("--selective").selective and not parsed("--no-selective").selective


def test_plain_train_defaults():
    config = resolve(parsed(""))
    assert (config.schedule, config.neck, config.switch) == ("default", "bnneck", "auto")


def test_paper_schedule():
    config = resolve(parsed("--schedule paper"))
    assert (config.lr, config.new_layer_mult, config.neck) == (0.1, 1.0, "fc512")
    assert resolve(parsed("--schedule paper --lr 0.02")).lr == 0.02


def test_own_data_and_own_labels_get_no_noise():
    assert parsed("--dataset manifest").noise_ratio == 0.0
    assert parsed("--dataset pid_folders").noise_ratio == 0.0
    assert parsed("--dataset market").noise_ratio == 0.2
    assert resolve(parsed("--dataset market --labels x.csv")).noise_ratio == 0.0


def test_settings_come_from_toml_and_the_command_line_wins(tmp_path):
    (tmp_path / "a.toml").write_text("lr = 0.3\nimage_size = [64, 32]\nswitch = 5\nnoise_ratio = 0\n")
    config = parsed(f"--config {tmp_path / 'a.toml'} --lr 0.2")
    assert (config.lr, config.image_size, config.switch, config.noise_ratio) == (0.2, (64, 32), "5", 0.0)


@pytest.mark.parametrize("path", sorted((PROJECT / "tools" / "configs").glob("*.toml")), ids=lambda p: p.name)
def test_shipped_configurations_are_valid(path):
    resolve(parsed(f"--config {path}"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rte = 1", "unknown setting 'learning_rte'"),
        ("batchsise = 1", "batchsize"),
        ('lr = "fast"', "setting lr must be float"),
        ("workers = 1.5", "setting workers must be int"),
        ("image_size = [1, 2, 3]", "image_size"),
        ("lr = ", "not a TOML file"),
    ],
)
def test_bad_toml_is_explained(tmp_path, text, words):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(UsageError, match=words):
        parsed(f"--config {tmp_path / 'a.toml'}")


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("--noise_ratio 1.5", 2, "--noise_ratio must be in [0.0, 1.0], got 1.5"),
        ("--supported_weight -1", 2, "--supported_weight must be at least 0.0, got -1.0"),
        ("--supported_weight inf", 2, "--supported_weight must be at least 0.0 and finite, got inf"),
        ("--noise_ratio -0.1", 2, "--noise_ratio"),
        ("--arch resnet5", 2, "resnet50"),
        ("--arch resnet5000 --neck fc512", 2, "no such architecture"),
        ("--gpu 3", 2, "--gpu 3: torch finds"),
        ("--gpu 0,1", 2, "torchrun"),
        ("--data_dir nowhere", 3, "nowhere"),
        ("--dataset markt", 2, "market"),
        ("--method cor", 2, "core"),
        ("--lr 0", 2, "--lr must be a positive number"),
        ("--switch 7", 2, "--switch 7 must lie in [1, 2]"),
        ("--switch soon", 2, "auto or an epoch"),
        ("--schedule reference", 2, "--epochs 2 with --schedule reference"),
        ("--weights missing.pth", 2, "missing.pth"),
        ("--labels missing.csv", 3, "missing.csv"),
        ("--batchsise 4", 2, "--batchsize"),
        ("--noise noisy", 2, "known are"),
        ("--neck fc", 2, "fc512"),
        ("--labels x.csv --noise_ratio 0.2", 2, "exclude each other"),
        ("--resume nothing", 2, "--resume nothing"),
        ("--protocol market150", 2, "market1501"),
        ("--noise_seed -1", 2, "--noise_seed"),
        ("--threads 0", 2, "--threads"),
        ("--eval_every -1", 2, "--eval_every"),
        ("--allow_outside", 2, "no meaning for --dataset market1501"),
    ],
)
def test_mistakes_are_one_paragraph_and_leave_nothing_behind(line, code, words, tiny_market, tmp_path, capsys):
    argv = ["train", "--data_dir", str(tiny_market), "--out", str(tmp_path / "runs"), *TINY, *line.split()]
    try:
        status = run(argv)
    except SystemExit as error:
        status = error.code
    captured = capsys.readouterr()
    assert (status, captured.out) == (code, "")
    assert words in captured.err and "Traceback" not in captured.err
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_damaged_images_are_all_named_before_training(tmp_path, capsys):
    data = write_tiny_market(tmp_path / "market")
    images = sorted((data / "bounding_box_train").iterdir())
    images[0].write_bytes(images[0].read_bytes()[:200])
    images[5].write_bytes(b"not an image")
    argv = ["train", "--data_dir", str(data), "--out", str(tmp_path / "runs"), *TINY]
    assert run(argv) == 3
    error = capsys.readouterr().err
    assert images[0].name in error and images[5].name in error and "--on_bad_image skip" in error
    assert run([*argv, "--name", "skipped", "--on_bad_image", "skip", "--max_bad_images", "0.1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_skipped_images"] == 2


def test_a_whole_run_prints_its_table_and_writes_figures(tiny_market, tmp_path, capsys):
    argv = ["train", "--data_dir", str(tiny_market), "--out", str(tmp_path), "--name", "r", *TINY]
    assert run(argv) == 0
    captured = capsys.readouterr()
    assert "of 48 training images have a label" in captured.out
    assert "network 0" in captured.out and "suspected_labels.csv" in captured.out
    assert captured.err.count("\nepoch ") == 2
    for name in ("loss.png", "cmc.png"):
        assert (tmp_path / "r" / name).read_bytes().startswith(b"\x89PNG")
    assert run(argv) == 2  # the name is taken
    assert run(["evaluate", str(tmp_path / "r"), str(tiny_market), "--workers", "0", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["mAP"] == json.loads((tmp_path / "r" / "result.json").read_text())["mAP"]


def test_own_labels_without_query_train(tmp_path, capsys):
    data = write_tiny_market(tmp_path / "market")
    names = sorted(path.name for path in (data / "bounding_box_train").iterdir())
    (tmp_path / "mine.csv").write_text("path,label,other\n" + "".join(f"{n},{int(n[:4]) % 4},x\n" for n in names))
    argv = ["train", "--data_dir", str(data), "--out", str(tmp_path), "--name", "r", *TINY]
    assert run([*argv, "--labels", str(tmp_path / "mine.csv")]) == 0
    result = json.loads((tmp_path / "r" / "result.json").read_text())
    assert (result["num_train_identities"], result["noise"], result["wrong_labels"]) == (4, "file", None)
    # A run's own labels.csv is accepted as labels.
    argv[argv.index("r")] = "s"
    assert run([*argv, "--labels", str(tmp_path / "r" / "labels.csv")]) == 0
    assert (tmp_path / "s" / "labels.csv").read_text() == (tmp_path / "r" / "labels.csv").read_text()


def test_queries_without_any_match_are_counted_or_refused(tmp_path, capsys):
    data = write_tiny_market(tmp_path / "market")
    argv = ["train", "--data_dir", str(data), "--out", str(tmp_path / "runs"), *TINY]
    for path in (data / "bounding_box_test").glob("0101_*"):
        path.unlink()
    assert run([*argv, "--name", "a"]) == 0
    assert "1 of 4 queries have no match" in capsys.readouterr().err
    shutil.rmtree(data / "bounding_box_test")
    (data / "bounding_box_test").mkdir()
    shutil.copy(next((data / "query").glob("0102*")), data / "bounding_box_test")
    assert run([*argv, "--name", "b"]) == 3
    assert "none of the 4 queries has a match" in capsys.readouterr().err


def test_resume_refuses_other_settings_and_accepts_harmless_ones(tiny_market, tmp_path, capsys):
    argv = ["train", "--data_dir", str(tiny_market), "--out", str(tmp_path), "--name", "r", *TINY]
    assert run(argv) == 0
    assert run(["train", "--resume", str(tmp_path / "r"), "--lr", "0.5"]) == 2
    assert "another run" in capsys.readouterr().err
    # A finished run that goes on has nothing left to do and says the same again.
    before = (tmp_path / "r" / "metrics.jsonl").read_text()
    assert run(["train", "--resume", "r", "--out", str(tmp_path), "--workers", "1"]) == 0
    assert (tmp_path / "r" / "metrics.jsonl").read_text() == before


def test_last_batch_of_one_odd_sizes_and_odd_images(tmp_path):
    """25 training images in batches of 8, a size of 33 x 17, grey, palette and CMYK files, blanks and umlauts in paths."""
    from PIL import Image

    data = write_tiny_market(tmp_path / "Ünïcode und Leer" / "market", ids=5, shots=5)
    images = sorted((data / "bounding_box_train").iterdir())
    Image.open(images[0]).convert("L").save(images[0])
    Image.open(images[1]).convert("CMYK").save(images[1])
    Image.open(images[2]).convert("P").save(images[2].with_suffix(".png"))
    images[2].unlink()
    argv = ["train", "--data_dir", str(data), "--out", str(tmp_path / "läufe 1"), "--name", "r", *TINY]
    assert run([*argv, "--image_size", "33", "17"]) == 0
    assert json.loads((tmp_path / "läufe 1" / "r" / "result.json").read_text())["num_train_images"] == 25


def test_a_taken_name_is_refused_before_a_baseline_for_patterned_noise_is_trained(tiny_market, tmp_path, capsys):
    argv = ["train", "--data_dir", str(tiny_market), "--out", str(tmp_path), "--name", "r", *TINY]
    (tmp_path / "r").mkdir()
    assert run([*argv, "--noise", "patterned"]) == 2
    assert "nothing is ever overwritten" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_measuring_again_keeps_the_protocol_and_does_not_mind_a_damaged_training_image(tmp_path, capsys):
    data = write_tiny_market(tmp_path / "market")
    argv = ["train", "--data_dir", str(data), "--out", str(tmp_path), "--name", "r", *TINY]
    assert run([*argv, "--protocol", "any-camera"]) == 0
    next((data / "bounding_box_train").iterdir()).write_bytes(b"not an image")
    capsys.readouterr()
    again = ["evaluate", str(tmp_path / "r"), "--workers", "0", "--json"]
    assert run(again) == 0
    found = json.loads(capsys.readouterr().out)
    before = json.loads((tmp_path / "r" / "result.json").read_text())
    assert (found["protocol"], found["mAP"]) == ("any-camera", before["mAP"])
    assert run([*again, "--dataset", "market"]) == 0  # another data set is ranked by its own rule
    assert json.loads(capsys.readouterr().out)["protocol"] == "market1501"


def test_a_manifest_of_links_trains_where_that_is_allowed(tmp_path, capsys):
    data = write_tiny_market(tmp_path / "market")
    assert run(["split", "reid", str(data), str(tmp_path / "links"), "--mode", "symlink"]) == 0
    argv = ["train", "--dataset", "manifest", "--data_dir", str(tmp_path / "links"), "--out", str(tmp_path), *TINY]
    assert run([*argv, "--name", "a"]) == 3
    assert "--allow_outside" in capsys.readouterr().err
    assert run([*argv, "--name", "a", "--allow_outside"]) == 0
    assert run(["evaluate", str(tmp_path / "a"), "--workers", "0"]) == 0


def test_one_architecture_or_two_however_they_are_written(tmp_path):
    assert parsed("--arch resnet18").arch == ("resnet18",)
    assert parsed("--arch resnet18 convnext_atto --lr 1").arch == ("resnet18", "convnext_atto")
    assert parsed("--arch resnet18 --arch convnext_atto").arch == ("resnet18", "convnext_atto")
    (tmp_path / "a.toml").write_text('arch = "resnet18"\nweights = ["a.pth", "none"]\n')
    config = parsed(f"--config {tmp_path / 'a.toml'}")
    assert config.arch == ("resnet18",) and config.weights == ("a.pth", "none")
    assert parsed("").arch == ("resnet50",) and parsed("--dataset synthetic").arch == ("resnet10t",)


def test_adamw_and_classes_have_defaults_of_their_own_and_published_schedules_no_rates_by_layer():
    sgd, adamw = resolve(parsed("")), resolve(parsed("--optimizer adamw --augment classes"))
    assert (sgd.lr, sgd.new_layer_mult, sgd.backbone_mult, sgd.weight_decay) == (0.01, 10.0, 1.0, 5e-4)
    assert (adamw.lr, adamw.new_layer_mult, adamw.backbone_mult, adamw.weight_decay) == (0.001, 1.0, 0.1, None)
    assert (sgd.trivial_augment, sgd.random_erasing, sgd.flip) == (False, 0.0, True)
    assert (adamw.trivial_augment, adamw.random_erasing, adamw.flip) == (True, 0.25, False)
    bare = resolve(parsed("--augment classes --no_trivial_augment --random_erasing 0 --no_mirror"))
    assert (bare.trivial_augment, bare.random_erasing, bare.mirror) == (False, 0.0, False)
    assert sgd.layer_decay == "auto" and resolve(parsed("--schedule paper")).layer_decay == "off"
    assert resolve(parsed("--schedule paper --layer_decay on")).layer_decay == "on"


def test_a_run_from_before_goes_on_as_it_began(tmp_path):
    """What its configuration does not name, it did not do."""
    (tmp_path / "old").mkdir()
    old = {"arch": "convnext_atto", "weights": "none", "weight_decay": 5e-4, "epochs": 3}
    (tmp_path / "old" / "config.json").write_text(json.dumps({"config": old}))
    config = parsed(f"--resume {tmp_path / 'old'}")
    assert (config.arch, config.weights) == (("convnext_atto",), ("none",))
    assert (config.layer_decay, config.normalisation, config.ema) == ("off", "imagenet", 0.0)
