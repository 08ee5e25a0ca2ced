"""The one exception for what a user can put right: shown as a single line, exit code 2."""


class UserError(Exception):
    """A mistake in the user's input; the message names the file, key or shape and the remedy."""
