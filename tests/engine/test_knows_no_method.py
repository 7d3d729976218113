"""No file of the engine names a method: adding one must not touch it."""

import ast
import re

from conftest import PROJECT

from reid_core.plugins import names

METHODS = names("reid_core.methods")
FLAG = re.compile(r"--method[ =]\w")


def named(source):
    """Line numbers at which a method is named: a string that is one's name, a ``--method NAME``, an import of one."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value in METHODS or FLAG.search(node.value):
                yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
            if any(f"reid_core.methods.{name}" in inside for name in METHODS):
                yield node.lineno
        elif isinstance(node, ast.Import) and any(a.name.split(".")[-1] in METHODS for a in node.names):
            yield node.lineno


def test_no_file_of_the_engine_names_a_method():
    files = sorted((PROJECT / "reid_core" / "engine").glob("*.py"))
    assert len(files) > 20
    assert not [f"{path.name}:{line}" for path in files for line in named(path.read_text(encoding="utf-8"))]


def test_the_check_sees_a_name():
    cases = [
        'if config.method == "peer": pass',
        "config.replace(method='baseline')",
        "raise UsageError('use --method core')",
        "from reid_core.methods.core import CoRefine",
        "from reid_core.methods import self_refine",
        "import reid_core.methods.core_peer",
        'f"--method=peer {x}"',
    ]
    assert [case for case in cases if not list(named(case))] == []
    for fine in (
        "from reid_core.methods._plan import Plan",
        "f'--method {config.method} has one phase'",
        "'reid-core train'",
    ):
        assert not list(named(fine)), fine
