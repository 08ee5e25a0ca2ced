"""The benchmark's table from fabricated run folders, and which folders it reads."""

import json
import re
import sys

import pytest
from kit.runs import fabricate

from benchmarks import streets
from configs import advent


def test_table_counts_finished_runs_only(tmp_path):
    for seed, last in ((0, 0.30), (1, 0.40)):
        fabricate(tmp_path, f"source_only_{seed}", [0.1, 0.45, last])
    fabricate(tmp_path, "source_only_2", [0.01], finished=False)
    fabricate(tmp_path, "advent_1", [0.2, 0.5])
    fabricate(tmp_path, "oracle_0", [0.6])
    fabricate(tmp_path, "oracle_2", [0.9])
    fabricate(tmp_path, "minent_0", [], finished=True)
    lines = streets.table(
        tmp_path, ["source_only", "minent", "advent", "oracle"], [0, 1, 2]
    ).splitlines()
    assert lines[2:6] == [
        "| source_only | 35.0 ± 7.1 | 45.0 ± 0.0 | 2/3 | 30.0 40.0 |",
        "| minent | – | – | 0/3 |  |",
        "| advent | 50.0 | 50.0 | 1/3 | 50.0 |",
        "| oracle | 75.0 ± 21.2 | 75.0 ± 21.2 | 2/3 | 60.0 90.0 |",
    ]
    # Compared where both are finished: 0.30 / 0.60 of seed 0, 0.50 - 0.40 of seed 1.
    assert "source_only reaches 50% of the oracle (seeds 0)" in lines
    assert "advent gains +10.0 points of mIoU over source_only (seeds 1)" in lines


def test_selection_is_averaged_over_runs(tmp_path):
    for seed, (rank, below) in enumerate([(0.5, 0.02), (-0.1, 0.0), (None, 0.01)]):
        entry = {"evaluations": 5, "rank_correlation": rank, "below_best": below}
        criteria = {"entropy": entry, "miou": {"evaluations": 5}}
        workdir = tmp_path / f"advent_{seed}"
        workdir.mkdir()
        (workdir / "selection.json").write_text(json.dumps({"criteria": criteria}))
    lines = streets.selection_table(tmp_path, ["advent", "oracle"], [0, 1, 2]).splitlines()
    assert lines[0] == "Snapshots of 3 runs, 5 each:"
    assert lines[4:] == ["| mean entropy (lowest) | +0.20 | 1/2 | 1.0 |"]
    assert streets.selection_table(tmp_path, ["oracle"], [0]) == ""


def test_ensembles_wait_for_their_members(tmp_path, monkeypatch):
    fabricate(tmp_path, "advent_0", [0.2])
    commands = []

    def run(command, **_):
        commands.append(command)
        (tmp_path / "advent_and_minent_er_0" / "results.json").write_text('{"miou": 0.3}')
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(streets.subprocess, "run", run)
    streets.average(tmp_path, "advent_and_minent_er", 0, "streets")
    assert not commands
    fabricate(tmp_path, "minent_er_0", [0.2])
    for _ in range(2):  # not twice
        streets.average(tmp_path, "advent_and_minent_er", 0, "streets")
    (command,) = commands
    members = next(flag for flag in command if flag.startswith("--ensemble="))
    assert [part.split("/")[-1] for part in members.split(",")] == [
        "advent_0@last",
        "minent_er_0@last",
    ]
    assert "| advent_and_minent_er | 30.0 | 30.0 | 1/1 | 30.0 |" in streets.table(
        tmp_path, ["advent_and_minent_er"], [0]
    )


def test_other_overrides_are_another_run(tmp_path):
    longer = ["--config.train.steps=9", "--config.data.root=/somewhere"]
    mine = streets.flags_of("source_only_adabn", 2, "streets", longer)
    assert mine[:3] == [
        "--config=configs/source_only.py:streets", "--config.seed=2",
        "--config.net.statistics=target",
    ]  # fmt: skip
    workdir = tmp_path / "runs" / "source_only_adabn_2"
    assert streets.clash(workdir, mine) is None
    streets.remember(workdir, mine)
    assert "somewhere" not in (workdir / "command.json").read_text()
    elsewhere = streets.flags_of("source_only_adabn", 2, "streets", longer[:1])
    assert streets.clash(workdir, elsewhere) is None
    other = streets.flags_of("source_only_adabn", 2, "streets", [])
    assert "holds the run of" in streets.clash(workdir, other)
    # A folder of which nothing is known is accepted, and stays unknown.
    unknown = fabricate(tmp_path, "advent_0", [0.1], finished=False)
    streets.remember(unknown, mine)
    assert streets.clash(unknown, other) is None


@pytest.mark.parametrize("fails", [False, True])
def test_the_exit_code_tells_of_failed_runs(tmp_path, monkeypatch, capsys, fails):
    def run(command, **_):
        workdir = next(flag for flag in command if flag.startswith("--workdir="))
        name = workdir.rsplit("/", 1)[1]
        ok = not (fails and "advent" in name)
        lines = {"kind": "eval", "step": 3, "miou": 0.25, "iou": {}}
        (tmp_path / name / "metrics.jsonl").write_text(json.dumps(lines) + "\n")
        if ok:
            (tmp_path / name / "report.html").write_text("")
        return type("Done", (), {"returncode": 0 if ok else 2})

    monkeypatch.setattr(streets.subprocess, "run", run)
    arguments = ["streets.py", f"--folder={tmp_path}", "--methods=source_only,advent", "--seeds=0"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert streets.main() == int(fails)
    said = capsys.readouterr().out
    assert ("FAILED, exit code 2" in said) is fails
    assert ("| advent | – | – | 0/1 |  |" in said) is fails
    monkeypatch.setattr(sys, "argv", [*arguments, "--table"])
    assert streets.main() == int(fails)
    monkeypatch.setattr(sys, "argv", [*arguments, "--", "--config.train.steps=9"])
    with pytest.raises(SystemExit, match="2"):
        streets.main()
    assert "give another --folder" in capsys.readouterr().err


def test_the_example_of_the_docstring_works():
    example = streets.__doc__.split("-- --config")[1].split("\n\n")[0]
    overrides = re.findall(r"--config\S+", "--config" + example)
    assert len(overrides) == 3
    config = advent.get_config("streets+scratch")
    config.update_from_flattened_dict(
        {key: int(value) for key, value in (text[9:].split("=") for text in overrides)}
    )
    assert config.train.steps == 2000
    # A schedule that ended before the training would be refused.
    assert min(config.optim[player].schedule_steps for player in ("gen", "disc")) == 2000
