"""What README.md shows is what happens: its Python runs, its commands parse, its files exist."""

import argparse
import re
import shlex
import subprocess
import sys

import pytest
from conftest import PROJECT

from reid_core.cli import train
from reid_core.cli._main import build_parser, same_dashes

README = (PROJECT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.S)
LINES = [
    line.split("   #")[0].strip()
    for _, block in BLOCKS
    for line in block.splitlines()
    if line.startswith(("reid-core ", "train_core "))
]


def test_the_two_commands_stand_at_the_top():
    top = "\n".join(README.splitlines()[:25])
    assert "make demo" in top and "make test" in top


def test_python_snippets_print_what_they_say():
    for kind, code in BLOCKS:
        if kind != "python":
            continue
        expected = [line.split("# ", 1)[1] for line in code.splitlines() if line.startswith("print") and "# " in line]
        found = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
        assert found.stdout.splitlines() == expected


@pytest.mark.parametrize("line", LINES)
def test_commands_parse(line):
    program, *flags = shlex.split(line)
    if program == "train_core":
        parser = argparse.ArgumentParser()
        train.configure(parser)
        parser.parse_args(same_dashes(flags))
    else:
        build_parser(flags[0]).parse_args(same_dashes(flags))


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (PROJECT / target).exists(), target
