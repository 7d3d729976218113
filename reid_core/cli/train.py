"""Train networks on labels of which some are wrong, measure them, and list the labels that look wrong.

Settings come from the defaults, the data set's own, --config FILE (TOML) and the command line, later ones winning.
``train_core`` is this command with --method core --schedule reference and the data sets' --noise_ratio 0.2.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import types
import typing
from pathlib import Path
from typing import Any

from reid_core.cli._training_screen import TrainingScreen
from reid_core.config import TrainConfig, coerce, merge, read_toml
from reid_core.data._find import resolve_name
from reid_core.engine.experiment import Host, run_training
from reid_core.engine.signals import stop_requests
from reid_core.errors import UsageError
from reid_core.models._input import largest_size
from reid_core.plugins import load
from reid_core.report.run_report import finish_run

REFERENCE = {"method": "core", "schedule": "reference"}

# What may differ when a run goes on: it changes neither the networks nor the labels.
FREE_ON_RESUME = {
    "workers",
    "device",
    "gpu",
    "data_dir",
    "save_minutes",
    "on_save_error",
    "out",
    "name",
    "resume",
    "eval_every",
    "threads",
}

# What runs did that began before these settings were there.
BEFORE = {"normalisation": "imagenet", "layer_decay": "off"}


def configure(parser: argparse.ArgumentParser) -> None:
    """A flag for every setting; none has a default here, so that what was typed is known."""
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings")
    parser.add_argument("--reference_defaults", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print result.json on stdout")
    hints = typing.get_type_hints(TrainConfig)
    groups: dict[str, Any] = {}
    for item in dataclasses.fields(TrainConfig):
        title = item.metadata["group"]
        group = groups.setdefault(title, parser.add_argument_group(title))
        names = [f"--{item.name}"] + ([f"--{item.metadata['alias']}"] if "alias" in item.metadata else [])
        text = item.metadata["help"].replace("%", "%%")
        if item.default not in (None, False, ()) and not isinstance(item.default, bool):
            shown = " ".join(map(str, item.default)) if isinstance(item.default, tuple) else item.default
            text += f" (default: {shown})"
        group.add_argument(*names, dest=item.name, default=argparse.SUPPRESS, help=text, **_options(item, hints))
        if item.metadata.get("negatable"):
            group.add_argument(
                f"--no_{item.name}",
                dest=item.name,
                action="store_false",
                default=argparse.SUPPRESS,
                help="the opposite",
            )


def _options(item: dataclasses.Field[Any], hints: dict[str, Any]) -> dict[str, Any]:
    hint = hints[item.name]
    choices = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kind = next(choice for choice in choices if choice is not type(None))
    if kind is bool:
        return {"action": "store_true"}
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)
        if inner[-1] is Ellipsis:
            # May be given once with several values, or several times.
            return {"action": "extend", "nargs": "+", "type": inner[0], "metavar": item.metadata.get("metavar", "RUN")}
        return {"nargs": len(inner), "type": inner[0], "metavar": ("H", "W")}
    options: dict[str, Any] = {"type": kind}
    if "choices" in item.metadata:
        options["choices"] = item.metadata["choices"]
    else:
        options["metavar"] = item.name.upper()
    return options


def configuration(args: argparse.Namespace) -> tuple[TrainConfig, bool]:
    """The unresolved configuration, and whether a run goes on."""
    typed = {
        item.name: getattr(args, item.name) for item in dataclasses.fields(TrainConfig) if hasattr(args, item.name)
    }
    typed = {name: coerce(name, value) for name, value in typed.items()}
    if "resume" in typed:
        return _resumed(typed), True
    if "labels" in typed and typed.get("noise_ratio"):
        raise UsageError(
            "--labels and --noise_ratio exclude each other: noise is added to labels known to be true only"
        )
    file = read_toml(Path(args.config)) if args.config else {}
    reference = REFERENCE if args.reference_defaults else {}
    dataset = resolve_name({**reference, **file, **typed}.get("dataset", TrainConfig.dataset))
    module = load("reid_core.data", dataset)
    own = dict(getattr(module, "TRAIN_DEFAULTS", {}))
    if getattr(module, "SIZE_OF_ARCHITECTURE", False):
        own["image_size"] = largest_size(merge([reference, file, typed]).arch)
    return merge([reference, own, file, typed]), False


def _resumed(typed: dict[str, Any]) -> TrainConfig:
    """The stored configuration of the run that goes on; only what changes no result may be given anew."""
    folder = Path(typed["resume"])
    if not (folder / "config.json").is_file():
        folder = Path(typed.get("out", TrainConfig.out)) / typed["resume"]
    try:
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"--resume {typed['resume']}: no run with a readable config.json there ({folder}): give the name of a run in "
            f"--out, or the path of its folder"
        ) from error
    stored = {**BEFORE, **stored}
    before = merge([stored])
    place = {"out": str(folder.parent), "name": folder.name, "resume": None}
    after = merge([stored, typed, place])
    changed = [
        f"--{name} {value} (was {getattr(before, name)})"
        for name, value in typed.items()
        if name not in FREE_ON_RESUME and getattr(before, name) != value
    ]
    if changed:
        raise UsageError(
            f"--resume {typed['resume']}: {', '.join(changed)} would make it another run; leave the flag out, or start "
            "anew under another --name"
        )
    return after


def run(args: argparse.Namespace) -> int:
    """Train; results on stdout, talk on stderr."""
    config, resume = configuration(args)
    with stop_requests(_say_saving) as stop:
        host = Host([Path(sys.argv[0]).name, *sys.argv[1:]], TrainingScreen(), stop, finish_run)
        folder = run_training(config, host, resume)
        TrainingScreen.summary(folder, as_json=args.json)
    return 0


def _say_saving(number: int) -> None:
    sys.stderr.write("\nstopping: the run is saved after this step; once more stops at once, without saving.\n")
