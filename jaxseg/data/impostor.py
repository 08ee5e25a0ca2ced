"""Recognises files left by a failed download: empty files, Git LFS pointers, HTML pages."""

ENOUGH = 512  # bytes at the beginning of a file that `told` needs


def told(beginning: bytes) -> str | None:
    """Identifies a file that a failed download left, by its first bytes.

    Args:
      beginning: the first ENOUGH bytes, or all of a shorter file.

    Returns:
      a phrase with a remedy for an empty file, a Git LFS pointer and an HTML or XML page; None
      for anything else.
    """
    if not beginning:
        return "an empty file: fetch it again"
    if beginning.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer instead of the file: fetch the file with `git lfs pull`"
    text = beginning[:ENOUGH].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head", b"<body")):
        return (
            "a web page, which a download leaves when a link has expired or asks for a login: "
            "fetch the file itself"
        )
    return None
