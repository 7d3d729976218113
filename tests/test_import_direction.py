"""Imports point one way: an arrow that points back, or sideways where it must not, fails here."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# As in the guide: {types, config, plugins, errors} -> {data, noise, models, ops, metrics, eval_lib} ->
# {losses, prepare} -> methods -> engine -> {audit, report} -> cli -> tools.
LAYERS = [
    {"reid_core", "reid_core.types", "reid_core.config", "reid_core.plugins", "reid_core.errors"}
    | {"reid_core.files", "reid_core.randomness"},
    {f"reid_core.{name}" for name in ("data", "noise", "models", "ops", "metrics")} | {"eval_lib"},
    {"reid_core.losses", "reid_core.prepare"},
    {"reid_core.methods"},
    {"reid_core.engine"},
    {"reid_core.audit", "reid_core.report"},
    {"reid_core.cli", "reid_core.__main__"},
    {"tools"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def part_of(module):
    """The part a dotted module belongs to: ``reid_core.data`` for ``reid_core.data._dataset``."""
    words = module.split(".")
    return words[0] if words[0] in ("eval_lib", "tools") else ".".join(words[:2])


def sources():
    for top in ("reid_core", "eval_lib", "tools"):
        for path in sorted((ROOT / top).rglob("*.py")):
            words = path.relative_to(ROOT).with_suffix("").parts
            yield (
                ".".join(words[:-1] if words[-1] == "__init__" else words),
                path.name == "__init__.py",
                path.read_text(),
            )


def imported(module, is_package, source):
    """Dotted names imported anywhere in ``source``, inside functions too; relative ones made absolute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                words = module.split(".")
                kept = words[: len(words) - node.level + int(is_package)]
                base = ".".join([*kept, base] if base else kept)
            if base == "reid_core":  # `from reid_core import data` imports a part
                yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield base, node.lineno


def arrows_back(module, is_package, source):
    """Imports of ``module`` that its layer does not allow."""
    here = part_of(module)
    for name, line in imported(module, is_package, source):
        there = part_of(name)
        if name.split(".")[0] not in ("reid_core", "eval_lib", "tools") or there == here:
            continue
        level = LEVEL.get(
            there, 0 if name.split(".")[0] == "reid_core" else None
        )  # `from reid_core import __version__`
        if here == "eval_lib" or level is None or level > LEVEL[here]:
            yield f"{module}:{line} imports {name}"


def test_every_module_has_a_layer():
    unknown = {part_of(module) for module, _, _ in sources()} - set(LEVEL)
    assert not unknown, f"name the layer of {unknown} in LAYERS"


def test_no_arrow_points_back():
    found = [arrow for module, is_package, source in sources() for arrow in arrows_back(module, is_package, source)]
    assert not found, "\n".join(found)


def test_the_check_sees_arrows_that_point_back():
    cases = [
        ("reid_core.types", "import reid_core.data.market1501"),
        ("reid_core.metrics.rank", "from reid_core import engine"),
        ("reid_core.losses.ce", "def f():\n    from ..methods import core"),
        ("reid_core.engine.trainer", "from reid_core.cli._screen import say"),
        ("eval_lib.reference", "from reid_core.types import RankResult"),
        ("reid_core.cli.train", "import tools.bench"),
    ]
    for module, source in cases:
        assert list(arrows_back(module, False, source)), source
    allowed = [
        ("reid_core.metrics.rank", "import eval_lib\nimport numpy\nfrom reid_core.types import RankResult"),
        ("reid_core.data.market1501", "from . import _dataset\nfrom ..errors import DataError"),
        ("reid_core.cli.info", "from reid_core import __version__"),
    ]
    for module, source in allowed:
        assert not list(arrows_back(module, False, source)), source
