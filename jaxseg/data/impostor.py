"""What a file is that is not what its name says: the usual leavings of a download that failed."""

ENOUGH = 512  # bytes of a file's beginning that `told` looks at


def told(beginning: bytes) -> str | None:
    """Says what a file is by its first bytes.

    Args:
      beginning: the first bytes, ENOUGH of them or all.

    Returns:
      a phrase with the remedy for an empty file, a Git LFS pointer and an HTML or XML page; None
      for anything else.
    """
    if not beginning:
        return "an empty file: fetch it again"
    if beginning.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer that stands for the file: fetch that with `git lfs pull`"
    text = beginning[:ENOUGH].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head", b"<body")):
        return (
            "a web page, which a download leaves when a link has expired or asks for a login: "
            "fetch the file itself"
        )
    return None
