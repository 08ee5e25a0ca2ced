"""Mutations of a file of each kind end in one line that names it, or are read; 10,000 of each are
in benchmarks/attack.py.
"""

import pytest

from attack import readers

COUNT = 60


@pytest.mark.filterwarnings("ignore")  # Pillow's, of what it finds odd
@pytest.mark.parametrize("name", readers.readers())
def test_mutated_files_are_told_or_read(name):
    found = readers.attack(name, 0, COUNT)
    assert not found["fault"], found["fault"]
    assert sum(found["ends"].values()) == COUNT and found["ends"].get("told", 0) > 5
