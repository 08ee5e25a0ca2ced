"""The one exception for what a user can put right: shown as a single line, exit code 2."""

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
    """Compares settings with a function's signature, so that the call itself need not be guarded:
    a TypeError from within the function is then a developer's mistake, and shows its traceback.

    Args:
      function: what the settings are going to be keyword arguments of.
      given: the names of the settings.
      what: begins the message: "method advent".
      noun: what one of them is called.
      reserved: parameters that are no settings, as the caller passes them itself.

    Raises:
      UserError: a setting that the function does not take, or one that it takes, has no default and
        is not given; the message lists all that it takes.
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
