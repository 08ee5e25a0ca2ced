"""Connected components by flooding."""


def flood(label, start):
    """The pixels 4-connected to a pixel through equal labels, found with a stack."""
    seen, stack = set(), [start]
    while stack:
        y, x = stack.pop()
        inside = 0 <= y < label.shape[0] and 0 <= x < label.shape[1]
        if (y, x) in seen or not inside or label[y, x] != label[start]:
            continue
        seen.add((y, x))
        stack += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    return seen
