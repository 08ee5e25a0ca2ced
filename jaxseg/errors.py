"""The exception for mistakes that a user can correct: shown as a single line, exit code 2."""

import inspect
from collections.abc import Callable, Iterable


class UserError(Exception):
    """A mistake in the user's input; the message names the file, key or shape and the remedy."""


def check_keywords(
    function: Callable,
    given: Iterable[str],
    *,
    what: str,
    noun: str = "setting",
    reserved: Iterable[str] = (),
) -> None:
    """Compares a user's settings with the signature of the function that will receive them.

    The caller then need not catch TypeError: one raised inside the function is a developer's
    mistake, and keeps its traceback.

    Args:
      function: takes the settings as keyword arguments.
      given: the names of the settings.
      what: the start of the message, such as "method advent".
      noun: what the message calls a setting.
      reserved: parameters that the caller passes itself, so that they are not settings.

    Raises:
      UserError: an unknown setting, or a missing one without a default; the message lists all
        settings that the function takes.
    """
    given, reserved = set(given), set(reserved)
    parameters = inspect.signature(function).parameters.values()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    known = {p.name for p in parameters if p.name not in reserved and p.kind not in variable}
    takes = f"it takes {', '.join(sorted(known)) or 'none'}"
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    if not anything and (unknown := sorted(given - known)):
        raise UserError(f"{what} has no {noun} {unknown[0]!r}; {takes}")
    keyword = inspect.Parameter.KEYWORD_ONLY
    needed = [p.name for p in parameters if p.kind is keyword and p.default is p.empty]
    if missing := [name for name in needed if name not in given | reserved]:
        raise UserError(f"{what} needs the {noun} {missing[0]!r}; {takes}")
