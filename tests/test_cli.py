"""`jaxseg COMMAND`: what it lists, completes and refuses."""

import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from kit.experiments import CONFIGS

from jaxseg.cli import main
from jaxseg.errors import UserError
from jaxseg.experiment import comments, presets

ROOT = Path(__file__).resolve().parent.parent


def jaxseg(*arguments, cwd=ROOT, **variables):
    return subprocess.run(
        [sys.executable, "-m", "jaxseg.cli.main", *arguments],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), **variables}, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip


def test_experiments_are_found_where_only_the_package_is(tmp_path):
    """As after `pip install`: no folder `configs` can be imported."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "jaxseg").symlink_to(ROOT / "jaxseg")
    done = jaxseg(
        "train", "--config=advent:streets", "--config.train.steps=-1",
        cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"),
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "jaxseg train: config.train.steps=-1 must be at least 1\n", done.stderr


def test_lists(capsys):
    assert presets.names() == sorted(CONFIGS)
    assert main.run(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in CONFIGS)
    assert main.run(["list", "advent"]) == 0
    listed = capsys.readouterr().out
    assert "jaxseg train --config=advent:gta5_cityscapes " in listed and "streets+scratch" in listed
    assert main.run(["list", "published"]) == 0
    assert "advent:gta5_cityscapes" in (listed := capsys.readouterr().out) and "43.8 mIoU" in listed
    assert main.run(["list", "data"]) == 0
    assert "GTA5 (Richter et al., ECCV 2016)" in capsys.readouterr().out
    assert main.run(["list", "advnt"]) == 2
    assert capsys.readouterr().err == "jaxseg list: no experiment 'advnt'; did you mean advent?\n"


def test_settings_are_listed_with_comments_and_ranges(capsys):
    assert main.run(["list", "dacs:streets"]) == 0
    rows = " ".join(capsys.readouterr().out.split())
    assert "train.batch = 4 images of each domain a step, over all devices; at least 1" in rows
    assert "eval.batch = 10 at least 1" in rows  # not the comment of train.batch
    assert "optim.disc.power = 0.9 of poly; 0 for a rate that stays; at least 0" in rows
    assert "augment.target.noise = 0.0 highest deviation of Gaussian noise, in grey levels" in rows
    assert "method.settings.target_weight = " in rows and "of the loss on mixed images" in rows
    assert "net.output_stride" not in rows  # DeepLabV2 has none
    told = comments.of_configs(presets.folder())
    assert told["optim.*.high_momentum"].endswith("where it is highest; 0 leaves it alone")


def test_every_experiment_has_presets_that_load():
    assert presets.accepted("oracle")[0] == "streets"
    assert "minicity+resnet101" in presets.accepted("baseline")
    assert presets.load("fcn:synthia_rand_cvpr16").data.classes == str(
        ROOT / "configs" / "synthia_rand_cvpr16.txt"
    )


def test_other_packages_called_configs_are_left_alone(monkeypatch, tmp_path):
    own, inner = types.ModuleType("configs"), types.ModuleType("configs.common")
    monkeypatch.setitem(sys.modules, "configs", own)
    monkeypatch.setitem(sys.modules, "configs.common", inner)
    assert presets.load("advent").name == "advent_streets"
    assert sys.modules["configs"] is own and sys.modules["configs.common"] is inner
    file = tmp_path / "mine.py"
    file.write_text(
        "from configs import advent\n\n"
        "def get_config():\n    config = advent.get_config()\n    config.name = 'mine'\n"
        "    return config\n"
    )
    assert presets.load(str(file)).name == "mine"
    with pytest.raises(UserError, match="given as .*mine.py:x': get_config has too many"):
        presets.load(f"{file}:x")


def complete(line):
    script = main.importlib.import_module("jaxseg.cli.completion").script("bash")
    words = " ".join(f"'{word}'" for word in line.split(" "))
    code = (
        f"{script}\nCOMP_LINE='{line}' COMP_POINT={len(line)} COMP_WORDS=({words})\n_jaxseg\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split()


def test_completion():
    assert complete("jaxseg tra") == ["train", "translate"]
    assert set(main.COMMANDS) <= set(complete("jaxseg "))
    assert complete("jaxseg predict --inp") == ["--input="]
    assert complete("jaxseg train --inp") == []
    # Readline replaces what stands behind '='.
    assert complete("jaxseg train --config=adven") == ["advent", "advent_prior"]
    assert complete("jaxseg completion z") == ["zsh"]


def script(shell):
    return main.importlib.import_module("jaxseg.cli.completion").script(shell)


@pytest.mark.skipif(not shutil.which("fish"), reason="needs fish, which .ci/run installs")
def test_completion_of_fish(tmp_path):
    (tmp_path / "runs").mkdir()

    def complete(line):
        code = f"{script('fish')}\ncomplete -C '{line}'"
        done = subprocess.run(
            ["fish", "--no-config", "-c", code], cwd=tmp_path, capture_output=True, text=True,
            check=True, env={**os.environ, "HOME": str(tmp_path)},
        )  # fmt: skip
        assert not done.stderr
        return [line.partition("\t")[0] for line in done.stdout.splitlines()]

    assert complete("jaxseg tra") == ["train", "translate"]
    assert set(main.COMMANDS) == set(complete("jaxseg "))
    assert complete("jaxseg predict --inp") == ["--input"]
    assert complete("jaxseg train --inp") == []
    assert complete("jaxseg train --config=adven") == ["--config=advent", "--config=advent_prior"]
    assert complete("jaxseg train --workdir=ru") == ["--workdir=runs/"]
    assert complete("jaxseg completion z") == ["zsh"]


# A terminal in which zsh runs; prints its line after the tabulator. The line is never ended: zsh
# then reads all that is typed in order, however long a completion takes. A '#' put in front of it
# makes zsh write the whole line again.
ZPTY = r"""
zmodload zsh/zpty
zpty z "TERM=dumb zsh -f -i"
until_seen() {
  out=''
  for i in {1..600}; do
    while zpty -r -t z chunk; do out+=$chunk; done
    [[ $out == *$1* ]] && break
    sleep 0.05
  done
  for i in {1..4}; do
    sleep 0.05
    while zpty -r -t z chunk; do out+=$chunk; i=1; done
  done
}
zpty -w z "PS1=; unsetopt beep prompt_sp zle_bracketed_paste; source $1; echo RE''ADY"
until_seen READY
shift
for line in "$@"; do
  zpty -w -n z $'\C-u'"$line"$'\t'"END"$'\C-a#'
  until_seen '#jaxseg'
  print -r -- "$out"
done
"""


@pytest.mark.skipif(not shutil.which("zsh"), reason="needs zsh, which .ci/run installs")
def test_completion_of_zsh(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "script").write_text(script("zsh"))
    lines = {
        "jaxseg trans": "jaxseg translate END",
        "jaxseg predict --inp": "jaxseg predict --input=END",
        "jaxseg train --inp": "jaxseg train --inpEND",
        "jaxseg train --config=adv": "jaxseg train --config=adventEND",
        "jaxseg train --workdir=ru": "jaxseg train --workdir=runs/END",
        "jaxseg completion z": "jaxseg completion zsh END",
    }
    done = subprocess.run(
        ["zsh", "-f", "-c", ZPTY, "zsh", str(tmp_path / "script"), *lines], cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    for line in lines.values():
        assert line in done.stdout


def test_commands_are_modes_of_a_config(tmp_path):
    done = jaxseg("train", "--help")
    assert done.returncode == 0 and "--workdir" in done.stdout and "--input" not in done.stdout
    for arguments, message in (
        (["train"], "jaxseg train: --config is missing"),
        (
            ["evaluate", "--workdir=no"],
            "--workdir=no holds no run (no config.json), and --config is",
        ),
        (
            ["translate", "--workdir=no"],
            "--workdir=no holds no run (no config.json), and --config is",
        ),
        (["train", "--mode=predict"], "the command itself says what to do"),
        (["train", "--config=advnt"], "jaxseg train: no experiment 'advnt'; did you mean advent?"),
        (
            ["predict", "--config=advent:streets", "--input=no"],
            "--input=no: no such file or folder",
        ),
    ):
        done = jaxseg(*arguments, cwd=tmp_path)
        assert done.returncode == 2 and message in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert main.run(["nothing"]) == 2
