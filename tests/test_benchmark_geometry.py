"""GIO-Ada's table from fabricated run folders; all settings of its cells exist."""

import ast
import functools
import json

import pytest

from benchmarks import geometry
from configs import gio_ada
from jaxseg.experiment import check, method


def fabricate(folder, name, miou, finished=True, **depth):
    workdir = folder / name
    workdir.mkdir()
    lines = [{"kind": "train", "step": 5, "transform/change": 9.0, "accuracy/input": 0.5}]
    lines += [{"kind": "eval", "step": 10, "miou": miou, "iou": {}}]
    if depth:
        lines[-1]["depth"] = depth
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        (workdir / "report.html").write_text("")


def test_the_table_holds_finished_runs_only(tmp_path):
    fabricate(tmp_path, "full_0", 0.2, abs_rel=0.3, rmse=10.0)
    fabricate(tmp_path, "full_1", 0.22, abs_rel=0.5, rmse=11.0)
    fabricate(tmp_path, "task_0", 0.1)
    fabricate(tmp_path, "task_1", 0.9, finished=False)
    assert geometry.table(tmp_path, ["task", "full", "depth"], [0, 1]).splitlines()[2:] == [
        "| task | 10.0 | 10.0 | – | – | 9.0 | 0.50 / – |",
        "| full | 21.0 ± 1.4 | 20.0 22.0 | 0.400 | 10.5 | 9.0 | 0.50 / – |",
        "| depth | – |  | – | – | – | – / – |",
    ]


@pytest.mark.parametrize("cell", geometry.CELLS)
def test_cells_are_settings_that_work(cell):
    where, *flags = geometry.flags_of(cell, 1, [])
    config = gio_ada.get_config(where.partition(":")[2])
    changed = {}
    for flag in flags:
        key, value = flag.removeprefix("--config.").split("=")
        old = functools.reduce(lambda group, part: group[part], key.split("."), config)
        changed[key] = value if isinstance(old, str) else type(old)(ast.literal_eval(value))
    config.update_from_flattened_dict(changed)
    check.check(config)
    method.make_method(config)
