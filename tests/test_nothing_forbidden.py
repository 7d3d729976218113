"""No code is run from data or weights, no shell is called, nothing is extracted unchecked, nothing prints."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = [*(ROOT / "reid_core").rglob("*.py"), *(ROOT / "eval_lib").rglob("*.py*"), *(ROOT / "tools").rglob("*.py")]
SHIPPED = sorted(path for path in SHIPPED if path.suffix in (".py", ".pyx"))
FORBIDDEN = {
    "unpickling weights": r"weights_only\s*=\s*False",
    "unpickling": r"\bpickle\.(load|Unpickler)|^\s*(from|import)\s+(pickle|dill|joblib|marshal|shelve|cloudpickle)\b",
    "pickled arrays": r"allow_pickle\s*=\s*True",
    "a shell": r"\bos\.(system|popen)\b|shell\s*=\s*True|\bgetoutput\b",
    "extracting without checks": r"\.extractall\(|\bunpack_archive\b",
    "running text": r"(?<![\w.])(eval|exec)\(",
    "loading without saying weights_only": r"\btorch\.load\((?![^)]*weights_only\s*=\s*True)",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_sources_are_free_of(what):
    pattern = re.compile(FORBIDDEN[what], re.MULTILINE)
    found = []
    for path in SHIPPED:
        text = path.read_text(encoding="utf-8")
        found += [f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, m.start()) + 1}" for m in pattern.finditer(text)]
    assert not found


def test_the_patterns_find_what_they_are_for():
    examples = {
        "unpickling weights": "torch.load(f, weights_only = False)",
        "unpickling": "import pickle",
        "pickled arrays": "np.load(f, allow_pickle=True)",
        "a shell": "os.system('mv a b')",
        "extracting without checks": "archive.extractall(target)",
        "running text": "x = eval(text)",
        "loading without saying weights_only": "torch.load(path, map_location='cpu')",
    }
    for what, text in examples.items():
        assert re.search(FORBIDDEN[what], text, re.MULTILINE), what
    assert not re.search(FORBIDDEN["loading without saying weights_only"], "torch.load(path, weights_only=True)")
    assert not re.search(FORBIDDEN["running text"], "model.eval()")
    assert len(SHIPPED) > 10


def test_the_library_does_not_print():
    """Print belongs to the command line and the tools."""
    found = []
    for path in SHIPPED:
        words = path.relative_to(ROOT).parts
        if words[0] == "tools" or words[:2] == ("reid_core", "cli") or path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found


def test_no_source_names_a_path_of_one_machine():
    pattern = re.compile("/" + "(home|root|Users)/" + r"\w")
    assert not [path for path in SHIPPED if pattern.search(path.read_text(encoding="utf-8"))]
