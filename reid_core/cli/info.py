"""Show versions, what was compiled and for what, devices and threads, and why anything is missing.

Every line of "missing" says what is slower, or not possible, without it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from importlib import metadata
from typing import Any

import eval_lib
from eval_lib import _native
from reid_core import __version__
from reid_core.cli import _screen

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scipy",
    "safetensors",
    "pillow",
    "matplotlib",
    "tensorboardX",
    "tqdm",
    "jinja2",
)
COMPILED = {
    "eval_lib._rank": "ranking runs in plain Python: the same figures, several times slower",
    "eval_lib._product": "NumPy multiplies embeddings, half as fast; distances may differ by a rounding",
}
OPTIONAL = {"h5py": "CUHK03's released MATLAB file cannot be read (pip install 'reid-core[cuhk03]')"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``reid-core info``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Collect and show; a package that cannot be imported is reported, not an error."""
    facts = collect()
    _screen.result(json.dumps(facts, indent=1, sort_keys=True) if args.json else render(facts))
    return 0


def collect() -> dict[str, Any]:
    """All facts as plain values."""
    missing: list[dict[str, str]] = []
    facts: dict[str, Any] = {
        "versions": _versions(missing),
        "compiled": _compiled(missing),
        "devices": [],
        "threads": {
            "processors": _native.usable_processors(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
        },
        "missing": missing,
    }
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:  # OSError: a shared library of it is broken
        missing.append({"what": "torch", "why": f"cannot be imported: {error}", "without": "nothing can be trained"})
        return facts
    facts["devices"] = _devices(torch, missing)
    facts["threads"]["torch"] = int(torch.get_num_threads())
    return facts


def _versions(missing: list[dict[str, str]]) -> dict[str, str]:
    versions = {"reid_core": __version__, "python": f"{platform.python_version()} ({sys.implementation.name})"}
    for name in (*PACKAGES, *OPTIONAL):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            without = OPTIONAL.get(name, "parts of reid_core cannot be imported (pip install reid-core installs it)")
            missing.append({"what": name, "why": "it is not installed", "without": without})
    return versions


def _compiled(missing: list[dict[str, str]]) -> dict[str, Any]:
    """What the build wrote of itself, and which of its modules can be loaded here."""
    record = eval_lib.build_record()
    loaded = []
    for name, without in COMPILED.items():
        reason = eval_lib.why_missing(name)
        if reason:
            missing.append({"what": name, "why": reason, "without": without})
        else:
            loaded.append(name)
    for name, why in record.get("skipped", {}).items():
        if name not in COMPILED:
            missing.append({"what": name, "why": str(why), "without": "plain PyTorch does its work, more slowly"})
    return {"loaded": loaded, **record}


def _devices(torch: Any, missing: list[dict[str, str]]) -> list[str]:
    """Names to train on, best last."""
    devices = [f"cpu: {_processor_name()}"]
    slower = "training runs on the processor, some 10 to 100 times slower than on a GPU"
    if torch.backends.mps.is_available():
        devices.append("mps: Apple GPU")
    elif torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
        missing.append({"what": "GPU", "why": "this torch was built for the processor alone", "without": slower})
    elif not torch.cuda.is_available():
        why = f"torch {torch.__version__} finds no GPU or no driver for it"
        missing.append({"what": "GPU", "why": why, "without": slower})
    else:
        for k in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(k)
            size = about.total_memory / 2**30
            devices.append(f"cuda:{k}: {about.name}, sm_{about.major}{about.minor}, {size:.0f} GiB")
    return devices


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def render(facts: dict[str, Any]) -> str:
    """The facts as text."""
    lines = ["versions"]
    lines += [f"  {name:<26}{version}" for name, version in facts["versions"].items()]
    compiled = facts["compiled"]
    lines.append("compiled")
    for name, about in compiled.get("built", {}).items():
        state = "" if name in compiled["loaded"] or not name.startswith("eval_lib.") else "  CANNOT BE LOADED HERE"
        lines.append(f"  {name:<26}{about.get('file', '')}{state}")
        details = [f"{key} {value}" for key, value in about.items() if key not in ("file", "flags") and value]
        lines.append(f"  {'':<26}{compiled.get('abi', '')}, {compiled.get('platform', '')}, {', '.join(details)}")
        lines.append(f"  {'':<26}{compiled.get('compiler', '')} {about.get('flags', '')}".rstrip())
    if not compiled.get("built"):
        lines.append("  nothing")
    lines.append("devices")
    lines += [f"  {device}" for device in facts["devices"]]
    lines.append("threads")
    lines += [f"  {name:<26}{value}" for name, value in facts["threads"].items() if value != ""]
    lines.append("missing")
    lines += [f"  {entry['what']}: {entry['why']}; {entry['without']}" for entry in facts["missing"]]
    if not facts["missing"]:
        lines.append("  nothing")
    return "\n".join(lines)
