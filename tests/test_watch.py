"""Processes of a run that vanish without a word: the others end soon, with a line that says why."""

import threading
import time

import pytest

from jaxseg.engine import watch


class Store:
    """The key-value store of `jax.distributed`, in memory."""

    def __init__(self):
        self.values, self.gone = {}, False

    def key_value_set(self, key, value, allow_overwrite=False):
        if self.gone:
            raise RuntimeError("UNAVAILABLE: failed to connect to all addresses")
        self.values[key] = value

    def key_value_dir_get(self, folder):
        if self.gone:
            raise RuntimeError("UNAVAILABLE: failed to connect to all addresses")
        return [(key, value) for key, value in dict(self.values).items() if key.startswith(folder)]


@pytest.fixture
def store(monkeypatch):
    """A store, short times, and processes that end by leaving their exit code in `store.ended`."""
    from jax._src import distributed

    found = Store()
    found.ended, found.code = threading.Event(), None

    def leave(code):
        found.code = code
        found.ended.set()
        threading.Event().wait(0.5)  # the process would be gone

    monkeypatch.setattr(distributed.global_state, "client", found)
    monkeypatch.setattr(watch.os, "_exit", leave)
    for name, seconds in dict(LOOK=0.01, BEAT=0.02, SILENT=0.4, LOST=0.1, GIVE_UP=0.2).items():
        monkeypatch.setattr(watch, name, seconds)
    return found


def signs(store, process, seconds):
    """Signs of life of another process."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        store.values[f"{watch.ALIVE}{process}"] = str(time.monotonic())
        time.sleep(0.02)


def test_one_that_was_killed_is_missed(store, capfd):
    mine = watch.Watch(0, 2)
    signs(store, 1, 0.8)
    assert not store.ended.is_set() and f"{watch.ALIVE}0" in store.values
    assert store.ended.wait(5) and store.code == 1
    said = capfd.readouterr().err
    assert "process 0 of 2 ends because process 1 has given no sign of life for 0.4 s" in said
    assert "goes on from the last checkpoint" in said and len(said.splitlines()) == 1
    mine.close()


def test_one_that_ended_in_good_order_is_not(store):
    mine = watch.Watch(0, 2)
    signs(store, 1, 0.1)
    store.values[f"{watch.CLOSED}1"] = "yes"
    assert not store.ended.wait(0.8)
    mine.close()
    assert store.values[f"{watch.CLOSED}0"] == "yes"


def test_the_store_goes_with_process_0(store, capfd):
    mine = watch.Watch(1, 2)
    signs(store, 0, 0.1)
    store.gone = True
    time.sleep(0.03)
    store.gone = False  # a short silence of the store is forgiven
    signs(store, 0, 0.2)
    assert not store.ended.is_set()
    store.gone = True
    assert store.ended.wait(5) and store.code == 1
    assert "process 1 of 2 ends because process 0 is gone: it was killed" in capfd.readouterr().err
    mine.close()
