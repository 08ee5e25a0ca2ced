"""Runs compared on one page: groups over seeds and their means by hand."""

import json

import pytest
from kit.pages import Page, make_run

from jaxseg.cli import main
from jaxseg.errors import UserError
from jaxseg.report import runs as report_runs
from jaxseg.run import compare


def config(seed, lr=0.1, name="advent_toy"):
    return {"name": name, "seed": seed, "optim": {"gen": {"lr": lr}}, "data": {"root": str(seed)}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two seeds of one setting, in a sweep; a run of another; one that was not evaluated."""
    folder = tmp_path_factory.mktemp("runs")
    for place, settings, steps in (
        ("sweep/member_00", config(0), (20, 40, 60)),
        ("sweep/member_01", config(1), (20, 40)),
        ("faster", config(0, lr=0.5), (20, 40, 60)),
        ("new", config(0, lr=0.7), ()),
    ):
        (folder / place).mkdir(parents=True)
        make_run(folder / place, steps=steps)
        (folder / place / "config.json").write_text(json.dumps(settings))
    return folder


def test_groups_differ_in_the_seed_only(folder):
    runs = report_runs.read([folder / "sweep", folder / "faster", folder / "faster"])
    groups = report_runs.grouped(runs)
    assert [(g.name, len(g.runs)) for g in groups] == [
        ("advent_toy (lr=0.1)", 2),
        ("advent_toy (lr=0.5)", 1),
    ]
    assert groups[0].own == {"optim.gen.lr": 0.1}
    # Last mIoU 47 % and, of the one that ends at step 40, 52 %: mean 49.5, deviation 5 / sqrt 2.
    last = groups[0].values(lambda run: run.last["miou"])
    assert report_runs.mean(last) == pytest.approx(0.495)
    assert report_runs.deviation(last) == pytest.approx(0.05 / 2**0.5)
    line = report_runs.over_steps(groups[0], lambda e: e["miou"])
    assert line == [(20, pytest.approx(0.31)), (40, pytest.approx(0.52))]  # steps that both have
    longer = {"optim.gen.schedule_steps": 6, "train.steps": 6}  # the one follows the other
    pair = [groups[0]._replace(name="a", own=own) for own in (longer, dict.fromkeys(longer, 2))]
    assert [g.name for g in report_runs._told_apart(pair)] == ["a (steps=6)", "a (steps=2)"]
    assert report_runs.mean([]) is None and report_runs.deviation([1.0]) is None


def test_the_page(folder, capsys):
    out = folder / "out.html"
    assert compare.compare([str(folder / "sweep"), str(folder / "faster")], str(out)) == str(out)
    told = capsys.readouterr().out
    assert "49.50 ± 3.54" in told and "47.00" in told and str(out) in told
    page = Page(out.read_text())
    texts = " ".join(text for text in page.texts if text)
    assert "2 groups of runs compared" in texts and "49.5 ± 3.5" in texts
    assert "advent_toy (lr=0.5) 1 60 47.0 -2.5" in texts
    assert "optim.gen.lr 0.1 0.5" in texts and "data.root" not in texts
    # Everything is in the page; reports of the runs are links to files beside it.
    local = {"sweep/member_00/report.html", "sweep/member_01/report.html", "faster/report.html"}
    assert local == {s for s in page.sources if not s.startswith("data:image/")}
    # mIoU, pixel accuracy, entropy, the loss, and mIoU of each run.
    assert page.tags.count("svg") == 5
    # Two images, each with photograph, truth and the predictions of both groups.
    assert page.tags.count("img") == 2 * 4


def test_what_cannot_be_compared(folder, tmp_path):
    for given, match in (
        ([folder / "missing"], "there is no such folder"),
        ([tmp_path], "holds no run .* and no sweep"),
        ([folder / "new"], "holds no evaluation yet"),
        ([], "no runs to compare"),
    ):
        with pytest.raises(UserError, match=match):
            compare.compare(list(map(str, given)), str(tmp_path / "x.html"))


def test_the_command(folder, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main.run(["compare", str(folder / "faster"), f"--output={out}"]) == 0
    assert "1 run compared" in out.read_text() and f"comparison: {out}" in capsys.readouterr().out
    assert main.run(["compare", str(tmp_path / "missing")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
