"""Full disks and folders that one cannot write: one line, and what was whole stays whole."""

import errno
import os
import subprocess

import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxseg import errors
from jaxseg.data import preparing
from jaxseg.engine.method import State
from jaxseg.errors import UserError
from jaxseg.run import evaluate, snapshots, train
from jaxseg.storage import logs, run_folder
from jaxseg.storage.checkpoints import checkpoint


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "permissions"),
        (errno.EACCES, "permissions"),
        (errno.EMFILE, "ulimit"),
        (errno.EIO, "check the path and the drive"),
    ],
)
def test_one_line_with_file_space_and_remedy(tmp_path, number, remedy):
    path = str(tmp_path / "not" / "there")
    error = OSError(number, os.strerror(number), path)
    with pytest.raises(UserError) as caught, errors.one_line_on_files(tmp_path):
        raise error
    said = str(caught.value)
    assert said.startswith(f"{path}: {os.strerror(number)}, ") and remedy in said
    assert "MiB free there" in said and "\n" not in said


def test_errors_of_libraries_and_of_other_kinds(tmp_path):
    told = errors.on_files(
        ValueError("RESOURCE_EXHAUSTED: Failed to write to file \"/d/00000004.tmp/d/x\"\n"
                   f"[OS error 28: {os.strerror(28)}]"), tmp_path,
    )  # fmt: skip
    assert told.startswith(f"/d/00000004.tmp/d/x: {os.strerror(28)}") and "\n" not in told
    chained = RuntimeError("saving failed")
    chained.__cause__ = OSError(errno.ENOSPC, os.strerror(28))
    assert errors.on_files(chained, tmp_path).startswith(f"{tmp_path}: ")
    for other in (ValueError("a mistake"), ConnectionResetError(104, "reset"), OSError("text")):
        assert errors.on_files(other, tmp_path) is None
        with pytest.raises(type(other)), errors.one_line_on_files(tmp_path):
            raise other


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_that_cannot_be_written_keeps_its_contents(tmp_path):
    path = tmp_path / "results.json"
    run_folder.write_text(path, "before")
    with pytest.raises(OSError, match="results.json"):
        run_folder.write_whole(path, full)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_tables_are_printed_before_they_are_written(tmp_path, monkeypatch, capsys):
    result = {"step": 4, "split": "val", "miou": 0.25, "pixel_accuracy": 0.5, "images": 3,
              "entropy": 0.5, "iou": {"road": 0.25}, "pixels": {"road": 1.0}}  # fmt: skip
    with logs.open_logs(tmp_path) as log:
        log.evaluation(4, result)
    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "write_whole", full)
        with pytest.raises(OSError, match="No space"):
            snapshots.conclude(str(tmp_path), 0)
    printed = capsys.readouterr().out
    assert "choosing a snapshot" in printed and "target mIoU 25.00 %" in printed

    class Loaded:
        name, facts, method = "step 4", {"step": 4}, "method"

    monkeypatch.setattr(evaluate, "_evaluator", lambda loaded: lambda loaded: result)
    monkeypatch.setattr(evaluate, "_described", lambda loaded, result: result)
    monkeypatch.setattr(run_folder, "write_whole", full)
    config = ConfigDict(
        {
            "data": {"target": {"name": "streets", "val_split": "val"}},
            "eval": {"full_resolution": False, "scales": (1.0,), "flip": False, "window": ()},
        }
    )
    with pytest.raises(OSError, match="No space"):
        evaluate.evaluate_snapshots(config, [Loaded()], str(tmp_path))
    assert "best: step 4, target mIoU 25.00 %" in capsys.readouterr().out


def test_logs_name_the_file(tmp_path, monkeypatch):
    with logs.open_logs(tmp_path) as log:
        kept = log._file

        class Full:
            name = kept.name
            write = staticmethod(full)

        log._file = Full
        with pytest.raises(OSError, match=logs.FILE):
            log.train(1, {"loss/gen": 1.0})
        log._file = kept


def test_training_says_it_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "make_trained", full)
    with pytest.raises(UserError, match=f"{tmp_path}: No space left on device, .* MiB free"):
        train.run(None, str(tmp_path))


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def state(step):
    draw = np.random.default_rng(step)
    params = {"gen": {"net": {"w": draw.normal(size=(1 << 18,)).astype(np.float32)}}}
    return State(np.int32(step), np.zeros(2, np.uint32), params, {"gen": {}}, {}, {})


def test_a_full_disk_keeps_the_last_whole_checkpoint(small_disk, caplog):
    """Steps of 1 MB on 4 MB, all of them to be kept."""
    folder = small_disk / "checkpoints"
    with pytest.raises(UserError) as caught, errors.one_line_on_files(small_disk):
        with checkpoint.open_manager(folder, keep=9) as manager:
            for step in range(1, 9):
                checkpoint.save(manager, state(step), {})
                last = step
    said = str(caught.value)
    assert "No space left on device" in said and str(small_disk) in said and "\n" not in said
    assert not caplog.records  # Orbax's threads log hundreds of lines
    with checkpoint.open_manager(folder, read_only=True) as manager:
        whole = max(manager.all_steps())
        found = checkpoint.restore_state(manager, state(0), announce=pytest.fail)
    assert last - 2 <= whole < last + 1 and int(found.step) == whole >= 1
    np.testing.assert_array_equal(
        found.params["gen"]["net"]["w"], state(whole).params["gen"]["net"]["w"]
    )


def test_events_of_a_full_disk_raise_at_once(small_disk):
    """Nobody waits for a thread that has died."""
    with pytest.raises(OSError, match="No space"), logs.open_logs(small_disk) as log:
        for step in range(99):
            noise = np.random.default_rng(step).integers(0, 256, (256, 256, 3))
            log.picture(step, "noise", noise.astype(np.uint8))


def test_an_error_that_is_its_own_cause_ends(tmp_path):
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert errors.on_files(first, tmp_path) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, None])
def test_records_on_a_full_disk_name_their_folder(tmp_path, number):
    class Builder:
        data_path, name = tmp_path / "records" / "x" / "1.0.0", "x"

        def download_and_prepare(self, **settings):
            raise OSError(number, "full") if number else OSError("Not enough disk space. Needed: ?")

    with pytest.raises(UserError, match=r"records/x/1\.0\.0: No space left on device, .* free"):
        preparing.prepare(Builder())
