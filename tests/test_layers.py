"""Imports point downward only, by the rank of a room (folder); see docs/design.md."""

import ast
import graphlib
import re
from pathlib import Path

import pytest
from kit.rooms import RANK

ROOT = Path(__file__).resolve().parent.parent
FOREIGN = {"tensorflow", "torch", "torchvision"}
FILES = sorted((ROOT / "jaxseg").rglob("*.py"))


def imports(path):
    """Full names of all that a file imports, also within functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def faults(path):
    """The faults among a file's imports, one line each."""
    parts = path.relative_to(ROOT / "jaxseg").with_suffix("").parts
    for name in imports(path):
        first, *rest = name.split(".")
        if name.startswith("."):
            yield f"write {name} as jaxseg..."
        if first in FOREIGN:
            yield f"{name} is not for run time"
        if first in ("jax", "flax", "optax") and parts[0] == "data":
            yield f"{name} in data/, which is NumPy only"
        if first != "jaxseg" or not rest or parts == ("__init__",):
            continue
        if rest[0] not in RANK:
            yield f"{name} is in no room of RANKS"
        elif rest[0] != parts[0] and RANK[rest[0]] >= RANK[parts[0]]:
            yield f"{name} is not below {parts[0]}"
        if any(part.startswith("_") and part != "__init__" for part in rest):
            yield f"{name} is private"
        method = parts[0] == rest[0] == "methods" and "parts" not in rest
        if method and (parts[1] == "parts" or parts[1] != rest[1]):
            yield f"{name}: methods do not import each other"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path):
    assert not list(faults(path))


def test_planted_faults_are_found(tmp_path, monkeypatch):
    planted = {
        "models/planted.py": ("def f():\n    from jaxseg.run import train\n", "not below models"),
        "methods/planted.py": ("from jaxseg.methods import advent\n", "do not import each other"),
        "data/planted.py": ("import jax.numpy\n", "NumPy only"),
        "engine/planted.py": ("from jaxseg.losses.depth import _mean\n", "is private"),
    }
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    for name, (text, fault) in planted.items():
        path = tmp_path / "jaxseg" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        assert any(fault in line for line in faults(path)), name


def test_no_private_name_of_another_module():
    """Neither `from a import _b` (above) nor `module._b`."""
    for path in FILES:
        tree = ast.parse(path.read_text())
        modules = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxseg")
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                private = re.match("_[a-z]", node.attr) and node.attr not in ("_replace", "_fields")
                assert not (private and node.value.id in modules), f"{path}: {ast.unparse(node)}"


def test_no_circle():
    """No circular imports of files, within a room either; graphlib names the files."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}
    graph = {
        name: {m for i in imports(path) for m in (i, i.rpartition(".")[0]) if m in names}
        for name, path in names.items()
    }
    graphlib.TopologicalSorter(graph).prepare()


def test_the_house_has_few_doors():
    here = [p for p in (ROOT / "jaxseg").iterdir() if not p.name.startswith((".", "__pycache__"))]
    assert sum(p.suffix == ".py" for p in here) <= 4
    assert sum(p.is_dir() for p in here) <= 12


def test_configs_import_nothing_but_ml_collections():
    for path in (ROOT / "configs").glob("*.py"):
        for name in imports(path):
            assert name.split(".")[0] in ("ml_collections", "configs"), f"{path}: {name}"


def test_no_file_is_too_long():
    long = {p.name: n for p in FILES if (n := len(p.read_text().splitlines())) > 300}
    assert not long


def test_tests_share_through_the_kit():
    """What two test files need stands in tests/kit; they do not import each other."""
    for path in (ROOT / "tests").rglob("*.py"):
        shared = [name for name in imports(path) if name.startswith("test_")]
        assert not shared, f"{path} imports {shared[0]}"
