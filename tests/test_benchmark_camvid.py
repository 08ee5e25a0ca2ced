"""The ablation's table from fabricated run folders; all settings of its cells exist."""

import functools
import json
import sys

import pytest
from kit.runs import fabricate

from benchmarks import camvid
from configs import baseline, fcn
from jaxseg.experiment import check


def test_table_tells_what_exceeds_the_seed_noise(tmp_path):
    finished = {"baseline": (0.40, 0.42), "focal": (0.43, 0.41), "cutmix": (0.5, 0.52)}
    for cell, mious in finished.items():
        for seed, miou in enumerate(mious):
            fabricate(tmp_path, f"{cell}_{seed}", [0.1, miou])
    fabricate(tmp_path, "weighted_1", [0.2])
    fabricate(tmp_path, "evonorm_0", [0.9], finished=False)
    for seed in (0, 1):
        workdir = fabricate(tmp_path, f"{camvid.MULTI_SCALE}_{seed}", [])
        (workdir / "results.json").write_text(json.dumps({"miou": 0.44 + 0.02 * seed}))
    cells = ["baseline", "focal", "cutmix", "weighted", "evonorm", camvid.MULTI_SCALE]
    # Each cell of two has a variance of 2 (1.41 squared), and a difference an error of 1.41.
    assert camvid.table(tmp_path, cells, [0, 1]).splitlines()[2:] == [
        "| baseline | 41.0 ± 1.4 | – | – | 40.0 42.0 |",
        "| focal | 42.0 ± 1.4 | +1.0 | no | 43.0 41.0 |",
        "| cutmix | 51.0 ± 1.4 | +10.0 | yes | 50.0 52.0 |",
        "| weighted | 20.0 | -22.0 | yes | 20.0 |",
        "| evonorm | – | – | – |  |",
        "| multi_scale_flip | 45.0 ± 1.4 | +4.0 | yes | 44.0 46.0 |",
        "",
        "One run's standard deviation between seeds, pooled: 1.41",
    ]
    assert camvid.seed_noise({"baseline": {0: 0.3}}) is None


@pytest.mark.parametrize(
    "preset, cell", [(p, c) for p, cells in camvid.CELLS.items() for c in cells]
)
def test_cells_are_settings_that_work(preset, cell):
    name, _ = camvid.CELLS[preset][cell]
    module = {"baseline": baseline, "fcn": fcn}[name]
    config = module.get_config(camvid.preset_of(name, preset))
    changed = {}
    for flag in camvid.flags_of(cell, 1, [], preset)[1:]:
        key, value = flag.removeprefix("--config.").split("=")
        old = functools.reduce(lambda group, part: group[part], key.split("."), config)
        changed[key] = (value,) if isinstance(old, tuple) else type(old)(value)
    config.update_from_flattened_dict(changed)
    check.check(config)
    assert config.train.eval_every == 0


def test_scales_are_tested_once_and_after_the_training(tmp_path, monkeypatch, capsys):
    commands = []

    def run(command, **_):
        commands.append(command)
        (tmp_path / f"{camvid.MULTI_SCALE}_0" / "results.json").write_text('{"miou": 0.3}')
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(camvid.subprocess, "run", run)
    arguments = ["camvid.py", f"--folder={tmp_path}", "--cells=baseline", "--seeds=0"]
    monkeypatch.setattr(sys, "argv", arguments + ["--table"])
    assert camvid.main() == 1 and not commands
    fabricate(tmp_path, "baseline_0", [0.2])
    monkeypatch.setattr(sys, "argv", arguments)
    for _ in range(2):
        assert camvid.main() == 0
    (command,) = commands
    assert "--mode=evaluate" in command and "--config.eval.flip=True" in command
    assert "| multi_scale_flip | 30.0 | +10.0 | – | 30.0 |" in capsys.readouterr().out
