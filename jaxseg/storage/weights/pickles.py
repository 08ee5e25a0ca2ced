"""Reads pickles as data: interprets their opcodes without importing or calling what they name.

A pickle is a program for a small stack machine, and Python's own reader executes it: it looks up
any name, calls it, and allocates as much memory as a number in the file asks for. Here the opcodes
(as split by `pickletools`, which checks every length against the file) only move values about.
A name that the caller does not know becomes a `Foreign`, an inert placeholder; calling or changing
a Foreign gives a Foreign.

The file's size bounds time and memory: each value needs an opcode of at least one byte, there are
at most MOST_OPCODES, keys are texts and small numbers only (hashing a tuple can take for ever),
sets become lists, and shared values stay shared.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

MOST_OPCODES = 1_000_000  # a network of a thousand tensors has some 50,000
DEEPEST = 100  # containers within containers
# Two bytes can refer to an earlier value any number of times, so no operation on a value may take
# time or memory in proportion to its length.
LONGEST = 4096  # characters of a key or a name
MOST_ARGUMENTS = 16


class Foreign(NamedTuple):
    """A placeholder for an object that is not read; `name` is its type or function."""

    name: str


class _Machine(NamedTuple):
    stack: list
    marks: list[int]  # heights of the stack
    memo: dict[int, Any]
    known: Mapping[str, Callable]
    find: Callable[[str], Any]
    persistent: Callable[[Any], Any]


def load(
    file: Any,
    known: Mapping[str, Callable],
    find: Callable[[str], Any],
    persistent: Callable[[Any], Any],
) -> Any:
    """Reads one pickle.

    Args:
      file: binary, at the beginning of the pickle; afterwards at its end. Its `read` must not
        reserve memory for more than there is: io.BytesIO and mmap do not.
      known: {'module.name': function to call with the pickle's arguments}.
      find: called with any other 'module.name'; returns a value for it, or None for a Foreign.
      persistent: converts a persistent id (a reference to data outside of the pickle) to a value.

    Returns:
      The value: dicts, lists, tuples, texts, bytes, numbers, None, Foreign, and results of `known`,
      `find` and `persistent`. It may be deep or contain itself; see `walked`.

    Raises:
      ValueError: not a pickle, truncated, too long, or with an opcode or value that is refused.
    """
    machine = _Machine([], [], {}, known, find, persistent)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count >= MOST_OPCODES:
            raise ValueError(f"refused: a pickle of more than {MOST_OPCODES} opcodes")
        if opcode.name in _CONSTANTS:
            machine.stack.append(argument)
        elif opcode.name in _ACTIONS:
            _ACTIONS[opcode.name](machine, argument)
        elif opcode.name == "STOP":
            return _pop(machine)
        else:
            raise ValueError(f"refused: a pickle with the opcode {opcode.name}")
    raise ValueError("a pickle that is cut short")


def walked(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """Copies nested dicts, lists and tuples, replacing every other item by leaf(item); shared
    parts are copied once.

    Raises:
      ValueError: deeper than DEEPEST, as a value that contains itself always is.
    """
    done: dict[int, Any] = {}

    def walk(item, depth):
        if not isinstance(item, dict | list | tuple) or type(item) not in (dict, list, tuple):
            return leaf(item)
        if id(item) in done:
            return done[id(item)]
        if depth >= DEEPEST:
            raise ValueError(f"refused: nested more than {DEEPEST} deep")
        if isinstance(item, dict):
            new = {key: walk(inner, depth + 1) for key, inner in item.items()}
        else:
            new = type(item)([walk(inner, depth + 1) for inner in item])
        return done.setdefault(id(item), new)

    return walk(value, 0)


def _pop(machine: _Machine) -> Any:
    if len(machine.stack) <= (machine.marks[-1] if machine.marks else 0):
        raise ValueError("a pickle that takes what it has not put")
    return machine.stack.pop()


def _pop_mark(machine: _Machine) -> list:
    if not machine.marks:
        raise ValueError("a pickle without the mark it goes back to")
    height = machine.marks.pop()
    items = machine.stack[height:]
    del machine.stack[height:]
    return items


def _key(key: Any) -> Any:
    if key is None or isinstance(key, float):
        return key
    if isinstance(key, str | bytes) and len(key) <= LONGEST:
        return key
    if isinstance(key, int) and abs(key) < 2**60:  # many larger numbers share one hash
        return key
    if isinstance(key, tuple) and type(key) is tuple and len(key) < 9:
        if not any(isinstance(part, tuple) for part in key):
            return tuple(map(_key, key))
    raise ValueError("refused: a key that is neither a text nor a number")


def _set_items(machine: _Machine, pairs: list) -> None:
    if len(pairs) % 2:
        raise ValueError("a pickle with a key that has no value")
    target = _top(machine)
    if isinstance(target, dict):
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            target[_key(key)] = value
    elif not isinstance(target, Foreign):
        raise ValueError("a pickle that puts a key into what has none")


def _extend(machine: _Machine, items: list) -> None:
    target = _top(machine)
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, Foreign):
        raise ValueError("a pickle that appends to what is no list")


def _top(machine: _Machine) -> Any:
    value = _pop(machine)
    machine.stack.append(value)
    return value


def _tuple(size: int) -> Callable:
    def act(machine: _Machine, _: Any) -> None:
        machine.stack.append(tuple(_pop(machine) for _ in range(size))[::-1])

    return act


def _global(machine: _Machine, name: str) -> None:
    if name in machine.known:
        machine.stack.append(machine.known[name])
        return
    found = machine.find(name)
    machine.stack.append(Foreign(name) if found is None else found)


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = _pop(machine), _pop(machine)
    if not isinstance(name, str) or not isinstance(module, str):
        raise ValueError("a pickle with a name that is no text")
    if len(name) + len(module) > LONGEST:
        raise ValueError("a pickle with an endless name")
    _global(machine, f"{module}.{name}")


def _call(machine: _Machine, _: Any) -> None:
    arguments, function = _pop(machine), _pop(machine)
    if isinstance(function, Foreign):
        machine.stack.append(function)
        return
    if not any(function is value for value in machine.known.values()):
        raise ValueError("refused: a pickle that calls what is no function")
    if type(arguments) is not tuple or len(arguments) > MOST_ARGUMENTS:
        raise ValueError("refused: a pickle that calls a function with something else")
    machine.stack.append(function(*arguments))


def _build(machine: _Machine, _: Any) -> None:
    _pop(machine)  # attributes, which plain containers and tensors do not need


def _get(machine: _Machine, index: int) -> None:
    index = int(index)
    if index not in machine.memo:
        raise ValueError("a pickle that recalls what it has not kept")
    machine.stack.append(machine.memo[index])


def _put(machine: _Machine, index: int) -> None:
    machine.memo[int(index)] = _top(machine)


def _pairs(machine: _Machine, _: Any) -> None:
    pairs = _pop_mark(machine)
    machine.stack.append({})
    _set_items(machine, pairs)


def _drop(machine: _Machine, _: Any) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        _pop(machine)


def _one_item(machine: _Machine, _: Any) -> None:
    value, key = _pop(machine), _pop(machine)
    _set_items(machine, [key, value])


_CONSTANTS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 "
    "BYTEARRAY8".split()
)
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET"), lambda machine, _: machine.stack.append([])),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_TUPLE": _tuple(0),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(_pop_mark(machine))),
    **dict.fromkeys(
        ("LIST", "FROZENSET"), lambda machine, _: machine.stack.append(_pop_mark(machine))
    ),
    "DICT": _pairs,
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "APPEND": lambda machine, _: _extend(machine, [_pop(machine)]),
    **dict.fromkeys(
        ("APPENDS", "ADDITEMS"), lambda machine, _: _extend(machine, _pop_mark(machine))
    ),
    "SETITEM": _one_item,
    "SETITEMS": lambda machine, _: _set_items(machine, _pop_mark(machine)),
    "GLOBAL": lambda machine, name: _global(machine, name.replace(" ", ".", 1)),
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _call,
    "NEWOBJ": _call,
    "NEWOBJ_EX": lambda machine, _: (_pop(machine), _call(machine, None))[1],
    "BUILD": _build,
    "BINPERSID": lambda machine, _: machine.stack.append(machine.persistent(_pop(machine))),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
    "MEMOIZE": lambda machine, _: _put(machine, len(machine.memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
    "POP": _drop,
    "POP_MARK": lambda machine, _: _pop_mark(machine) and None,
    "DUP": lambda machine, _: machine.stack.append(_top(machine)),
}
