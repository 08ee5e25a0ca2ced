"""Settings that belong together, as one NamedTuple each."""

from collections.abc import Mapping
from typing import Any

from jaxseg.errors import UserError


def grouped(settings: Mapping[str, Any], *groups: type) -> list[Any]:
    """Sorts a method's settings, which are flat in a config, into groups by the names of fields.

    Args:
      settings: name -> value.
      groups: NamedTuple classes; a field without a setting keeps its default.

    Returns:
      One instance of each group.

    Raises:
      UserError: a setting that no group has, or that is missing and has no default.
    """
    known = [name for group in groups for name in group._fields]
    if unknown := [name for name in settings if name not in known]:
        raise UserError(f"no setting {unknown[0]!r}; choose from {', '.join(sorted(known))}")
    needed = [n for g in groups for n in g._fields if n not in g._field_defaults]
    if missing := [name for name in needed if name not in settings]:
        raise UserError(f"the setting {missing[0]!r} is missing")
    return [
        group(**{name: settings[name] for name in group._fields if name in settings})
        for group in groups
    ]
