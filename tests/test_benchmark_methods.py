"""The table of what methods cost."""

import pytest

from benchmarks import methods


def test_rows_are_relative_to_the_first():
    lines = methods.table([("source_only", 0.1, 2**20), ("dacs", 0.25, 3 * 2**20)])
    assert lines[2:] == [
        "| source_only | 100 ms | 1.00x | 1 MiB | 1.00x |",
        "| dacs | 250 ms | 2.50x | 3 MiB | 3.00x |",
    ]
    assert methods.table([("dacs", None, 2**20)])[2] == "| dacs | - | - | 1 MiB | 1.00x |"


@pytest.mark.parametrize("row", methods.ROWS)
def test_rows_are_configs(row):
    config = methods.config_of(row, "streets")
    assert bool(config.mic.weight) == row.endswith("mic")
    assert bool(config.net.hrda) == row.endswith("hrda")
    assert (config.net.architecture == "daformer") == row.endswith(("+daformer", "hrda"))
