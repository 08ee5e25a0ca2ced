"""Processes of a run that vanish without a word: the others end soon, with a line that says why."""

import socket
import threading
import time

import pytest

from jaxseg.engine import relay, watch


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


# As a killed process left them in the others, in an attack.
CUT_OFF = (
    "UNKNOWN: Gloo AllGather failed: [external/gloo/gloo/transport/tcp/pair.cc:538] Read error "
    "[127.0.0.1]:900: Connection reset by peer"
)


@pytest.mark.parametrize("count, who", [(2, "process 1"), (3, "another process")])
def test_one_that_was_killed_in_a_collective_is_told(count, who, store, capfd):
    mine = watch.Watch(0, count)
    threading.Thread(target=mine.fail, args=(ValueError(CUT_OFF),), daemon=True).start()
    assert store.ended.wait(5) and store.code == 1
    said = capfd.readouterr().err
    assert f"process 0 of {count} ends because {who} is gone: it was killed" in said
    assert len(said.splitlines()) == 1
    assert watch.cut_off(RuntimeError("NCCL: remote process exited or there was a network error"))
    assert not watch.cut_off(ValueError("Gloo needs a connection")) and not watch.cut_off(OSError())
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


@pytest.fixture
def line():
    """A relay to a port where this test listens: (relay, ear)."""
    with socket.create_server(("127.0.0.1", 0)) as ear:
        yield relay.to(f"127.0.0.1:{ear.getsockname()[1]}"), ear


def both_ends(line):
    """A connection through the relay, from its two ends."""
    host, _, port = line[0].address.partition(":")
    near = socket.create_connection((host, int(port)), timeout=5)
    far, _ = line[1].accept()
    far.settimeout(5)
    near.sendall(b"question")
    assert far.recv(99) == b"question"
    far.sendall(b"answer" * 50_000)
    got = b""
    while len(got) < 300_000:
        got += near.recv(1 << 20)
    assert got == b"answer" * 50_000
    return near, far


def test_a_line_to_process_0_is_transparent_until_it_is_watched(line):
    for first, second in ((0, 1), (1, 0)):
        ends = both_ends(line)
        ends[first].close()
        assert ends[second].recv(99) == b""
        ends[second].close()
    line[1].close()
    host, _, port = line[0].address.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as near:
        assert near.recv(99) == b""  # as one that is refused: process 0 has not started yet


def test_a_line_that_is_watched_stays_open(line, monkeypatch):
    told, heard = [], threading.Event()
    monkeypatch.setattr(relay, "SILENT", 0.3)
    line[0].watch(lambda what: (told.append(what), heard.set()))
    near, far = both_ends(line)
    time.sleep(0.5)  # nothing was asked
    assert not told
    near.sendall(b"again")
    assert heard.wait(5) and told == ["has not answered for 0 s"]
    near.close()
    far.close()
    heard.clear()
    near, far = both_ends(line)
    far.close()
    assert heard.wait(5) and told[1:] == ["is gone"]
    near.settimeout(0.2)
    with near, pytest.raises(TimeoutError):
        near.recv(99)


def test_no_line_through_a_proxy(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://192.0.2.1:3128")
    assert relay.to("127.0.0.1:1") is None
