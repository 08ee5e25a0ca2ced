"""gpu.sh: its syntax, a rehearsal with stand-ins for the parts, and its table."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu_table  # noqa: E402

STEP = """AdvEnt, paper: 4 x 720x1280 + 4 x 512x1024, float32, GPU
measured matrix products: 300,000 GFLOP/s; PyTorch counts 27,000.0 GFLOP a step
jaxseg on JAX 0.10: median 121.5 ms a step (fastest 120.0, 10 turns), 3 ms of all cores, \
222,222 GFLOP/s (74%), peak 21,000 MiB, first step after 30.0 s
PyTorch 2.13: median 243.0 ms a step (fastest 240.0, 10 turns), 9 ms of all cores, \
111,111 GFLOP/s (37%), peak 40,000 MiB, first step after 5.0 s
by the time of all cores 3.00x
2.00x
"""


def test_the_table(tmp_path):
    """MFU by hand: 27 TFLOP in 121.5 ms are 222 TFLOP/s, 45 % of an H100's 495 in TF32."""
    (tmp_path / "device.txt").write_text("NVIDIA H100 80GB HBM3, 81559 MiB, 570.1\n")
    (tmp_path / "step_float32.txt").write_text(STEP)
    uncounted = STEP.replace("; PyTorch counts 27,000.0 GFLOP a step", "")
    (tmp_path / "step_bfloat16_compiled.txt").write_text(uncounted.replace("121.5 ms", "50.0 ms"))
    (tmp_path / "step_lite0.txt").write_text("Traceback")
    (tmp_path / "sweep.txt").write_text("| sweep |\n2.50x\n")
    head, *rows = gpu_table.rows(tmp_path)
    assert head.startswith("NVIDIA H100")
    assert rows[2].endswith("| 243.0 ms | 121.5 ms | 2.00x | 45% | 40,000, 21,000 |")
    assert "| 50.0 ms | 4.86x | 55% |" in rows[3]  # 27 / 0.05 / 989
    assert rows[4].endswith("| - | - | - | - | - |") and rows[5].endswith("| - | - | - | - | - |")
    assert "| 2.50x |" in rows[6]


@pytest.mark.skipif(not shutil.which("timeout"), reason="needs coreutils")
def test_a_rehearsal(tmp_path):
    """All parts are started with flags that their scripts take, and gaps do not stop the table."""
    stand_in = tmp_path / "python"
    stand_in.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/said\n'
        f'case "$1" in *gpu_table.py) exec {sys.executable} "$@";; *) exit 3;; esac\n'
    )
    stand_in.chmod(0o755)
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "gpu.sh"), "--cpu"], capture_output=True, text=True,
        env=os.environ | {"PYTHON": str(stand_in), "OUT": str(tmp_path / "out")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("exit code 3") == 5 and "a rehearsal" in done.stdout
    said = (tmp_path / "said").read_text().splitlines()
    for line in said[:-1]:
        script, *flags = line.split()
        text = (ROOT / script).read_text()
        assert all(f'"{flag.partition("=")[0]}"' in text for flag in flags if flag[0] == "-"), line


def test_the_limits_add_up_to_eight_minutes():
    text = (ROOT / "benchmarks" / "gpu.sh").read_text().split("\nelse\n")[1]
    limits = [
        int(line.split()[1])
        for line in text.splitlines()
        if line.strip().startswith(("step ", "part "))
    ]
    assert len(limits) == 5 and sum(limits) <= 480
