"""Tiny training runs for tests."""

import json

from reid_core.config import merge
from reid_core.engine.experiment import Host, run_training
from reid_core.engine.signals import StopRequest

TINY = {
    "arch": "test_resnet",
    "neck": "fc512",
    "neck_dim": 32,
    "image_size": (32, 16),
    "batchsize": 8,
    "epochs": 4,
    "switch": "2",
    "lr": 0.05,
    "new_layer_mult": 1.0,
    "augment": "reid",
    "workers": 0,
    "threads": 1,
    "eval_every": 0,
    "save_minutes": 0.0,
    "noise_ratio": 0.25,
    "device": "cpu",
}


class SilentScreen:
    """A reporter that remembers; ``at_step`` is called with (epoch, step)."""

    def __init__(self, at_step=None):
        self.notes, self.lines, self.steps, self.at_step = [], [], [], at_step

    def started(self, data, walk, folder, first_epoch, image_size):
        self.data, self.walk, self.folder, self.first_epoch = data, walk, folder, first_epoch

    def working(self, title):
        return lambda done, total: None

    def step(self, epoch, step, steps, losses):
        self.steps.append((epoch, step))
        if self.at_step is not None:
            self.at_step(epoch, step)

    def epoch(self, line):
        self.lines.append(line)

    def note(self, text):
        self.notes.append(text)


def train(data_dir, out, name="run", *, resume=False, screen=None, stop=None, finish=lambda folder: None, **settings):
    """Train and return (run folder, screen)."""
    screen = screen or SilentScreen()
    config = merge([TINY, {"data_dir": str(data_dir), "out": str(out), "name": name}, settings])
    host = Host(["test"], screen, stop or StopRequest(), finish)
    return run_training(config, host, resume), screen


def metrics(folder):
    """metrics.jsonl without the times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def weights(folder):
    """Arrays of the last checkpoint."""
    from reid_core.engine.checkpoint import CheckpointFolder

    return CheckpointFolder(folder / "checkpoints").load("last").tensors
