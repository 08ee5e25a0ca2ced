"""Who may import whom: downward only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LEAVES = {"jaxseg.errors", "jaxseg.resize"}
# A name allows itself and what lies below it; "jaxseg" allows everything.
MAY_IMPORT = {
    "errors": set(),
    "watch": set(),
    "distributed": {"jaxseg.watch"},
    "interrupt": {"jaxseg.distributed"},
    "resize": set(),
    "core": set(),
    "programs": set(),
    "optim": set(),
    "losses": {"jaxseg.losses"},
    "metrics": set(),
    "metrics_boundary": {"jaxseg.metrics"},
    "metrics_cityscapes": {"jaxseg.metrics"},
    "metrics_depth": set(),
    "inference": set(),
    "models": {"jaxseg.models"},
    "weights": {"jaxseg.weights"},
    "data": {"jaxseg.data"},
    "methods": {"jaxseg.core", "jaxseg.losses", "jaxseg.methods", "jaxseg.mixing",
                "jaxseg.models.network"},
    "selection": {"jaxseg.metrics"},
    "evaluate": {"jaxseg.core", "jaxseg.evaluate_gather", "jaxseg.evaluate_results",
                 "jaxseg.evaluate_tally", "jaxseg.losses.entropy", "jaxseg.metrics",
                 "jaxseg.metrics_depth", "jaxseg.selection"},
    "evaluate_gather": set(),
    "evaluate_results": {"jaxseg.metrics", "jaxseg.metrics_boundary", "jaxseg.metrics_cityscapes",
                         "jaxseg.metrics_depth"},
    "evaluate_tally": {"jaxseg.evaluate_gather", "jaxseg.metrics", "jaxseg.metrics_boundary",
                       "jaxseg.metrics_cityscapes"},
    "predict": {"jaxseg.core", "jaxseg.losses.entropy", "jaxseg.metrics", "jaxseg.evaluate_results",
                "jaxseg.visualize", "jaxseg.data.labels", "jaxseg.data.codec"},
    "checkpoint": {"jaxseg.core", "jaxseg.checkpoint_choice", "jaxseg.checkpoint_tree",
                   "jaxseg.checkpoint_orbax", "jaxseg.selection"},
    "checkpoint_choice": {"jaxseg.selection"},
    "checkpoint_orbax": set(),
    "checkpoint_tree": set(),
    "visualize": {"jaxseg.evaluate", "jaxseg.visualize_depth", "jaxseg.data.labels"},
    "visualize_depth": set(),
    "visualize_source": {"jaxseg.core", "jaxseg.visualize", "jaxseg.visualize_depth",
                         "jaxseg.data.labels"},
    "report": {"jaxseg.evaluate_results", "jaxseg.logs", "jaxseg.report_charts",
               "jaxseg.report_curves", "jaxseg.report_depth", "jaxseg.report_parts",
               "jaxseg.report_pictures", "jaxseg.report_selection", "jaxseg.report_source",
               "jaxseg.visualize"},
    "report_charts": set(),
    "report_curves": {"jaxseg.report_charts"},
    "report_depth": {"jaxseg.report_parts", "jaxseg.report_pictures", "jaxseg.visualize",
                     "jaxseg.visualize_depth"},
    "report_parts": {"jaxseg.evaluate_results"},
    "report_pictures": {"jaxseg.report_parts", "jaxseg.visualize"},
    "report_source": {"jaxseg.report_depth", "jaxseg.report_parts", "jaxseg.report_pictures",
                      "jaxseg.visualize_source"},
    "report_selection": {"jaxseg.evaluate_results", "jaxseg.report_charts", "jaxseg.selection"},
    "mixing": {"jaxseg.mixing_masks"},
    "mixing_masks": set(),
    "augmentation_sheet": {"jaxseg.mixing", "jaxseg.visualize", "jaxseg.data"},
    "collapse": set(),
    "progress": set(),
    "logs": set(),
    "assemble": {"jaxseg.core", "jaxseg.data", "jaxseg.inference", "jaxseg.methods",
                 "jaxseg.networks", "jaxseg.optim", "jaxseg.weights"},
    "networks": {"jaxseg.core", "jaxseg.data.labels", "jaxseg.models"},
    "batches": {"jaxseg.assemble", "jaxseg.core", "jaxseg.data", "jaxseg.losses.balance",
                "jaxseg.metrics_cityscapes"},
    "survey": {"jaxseg.assemble", "jaxseg.batches", "jaxseg.data", "jaxseg.visualize"},
    "validate": {"jaxseg.assemble", "jaxseg.batches", "jaxseg.data", "jaxseg.networks"},
    "snapshots": {"jaxseg"},
    "restore": {"jaxseg.assemble", "jaxseg.checkpoint", "jaxseg.core", "jaxseg.data.labels",
                "jaxseg.logs", "jaxseg.selection", "jaxseg.weights"},
    "ensembles": {"jaxseg.inference", "jaxseg.restore"},
    "train": {"jaxseg"},
    "sweep": {"jaxseg"},
    "sweep_members": {"jaxseg.assemble", "jaxseg.core"},
    "sweep_report": {"jaxseg.evaluate_results", "jaxseg.logs", "jaxseg.selection",
                     "jaxseg.sweep_members"},
    "apply": {"jaxseg"},
}  # fmt: skip
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


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path):
    part = path.relative_to(ROOT / "jaxseg").parts[0].removesuffix(".py")
    if part == "__init__":
        return
    assert part in MAY_IMPORT, f"say in MAY_IMPORT what {part} may import"
    allowed = MAY_IMPORT[part] | LEAVES
    for name in imports(path):
        first = name.split(".")[0]
        assert not name.startswith("."), f"{path}: write {name} as jaxseg..."
        assert first not in FOREIGN, f"{path}: {name}"
        if first == "jaxseg":
            fits = any(name == a or name.startswith(a + ".") for a in allowed)
            assert fits, f"{path} imports {name}"
        if first in ("jax", "flax", "optax") and part == "data":
            assert path.name == "feed.py", f"{path}: only feed.py may import jax in data/"


def test_configs_import_nothing_but_ml_collections():
    for path in (ROOT / "configs").glob("*.py"):
        for name in imports(path):
            assert name.split(".")[0] in ("ml_collections", "configs"), f"{path}: {name}"


def test_no_file_is_too_long():
    long = {p.name: n for p in FILES if (n := len(p.read_text().splitlines())) > 300}
    assert not long
