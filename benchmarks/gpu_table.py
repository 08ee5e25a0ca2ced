"""The table of `gpu.sh` from the output of its parts; a part that gave none is a gap.

python benchmarks/gpu_table.py runs/gpu
"""

import re
import sys
from pathlib import Path

# Dense peak rates of data sheets in TFLOP/s: bfloat16, and TF32 for float32.
PEAKS = {
    "H200": (989, 495), "H100": (989, 495), "A100": (312, 156), "L40S": (362, 183),
    "L4": (121, 60), "A10G": (70, 35), "4090": (165, 83), "3090": (71, 36),
}  # fmt: skip
PARTS = {
    "step_float32": "training step, float32, against eager PyTorch",
    "step_bfloat16_compiled": "training step, bfloat16, against torch.compile",
    "step_lite0": "training step, EfficientNet-Lite0, float32, against eager PyTorch",
    "evaluation": "evaluation of an image, against eager PyTorch",
}
LINE = re.compile(r"median ([\d.,]+) ms .*?(?:, ([\d,]+) GFLOP/s \S+)?, peak ([\d,]+) MiB")


def number(text: str) -> float:
    """'1,234.5' as 1234.5."""
    return float(text.replace(",", ""))


def sides(text: str) -> dict[str, tuple[float, float]]:
    """{'jaxseg', 'PyTorch': (median milliseconds, peak MiB)} of a part's output."""
    found = {}
    for line in text.splitlines():
        name = line.split(" ")[0]
        if name in ("jaxseg", "PyTorch") and (match := LINE.search(line)):
            found[name] = number(match[1]), number(match[3])
    return found


def flops_of(text: str) -> float | None:
    """FLOP of a step as PyTorch counts them."""
    match = re.search(r"PyTorch counts ([\d,.]+) GFLOP a step", text)
    return number(match[1]) * 1e9 if match else None


def peak_of(device: str, bfloat16: bool) -> float | None:
    """The data sheet's FLOP/s of a device, if it is known."""
    for name, rates in PEAKS.items():
        if name in device:
            return rates[not bfloat16] * 1e12
    return None


def rows(folder: Path):
    """The table's lines."""
    texts = {p.stem: p.read_text() for p in folder.glob("*.txt") if not p.stem.endswith(".err")}
    device = texts.get("device", "CPU, a rehearsal").strip()
    counted = flops_of(texts.get("step_float32", ""))  # the same work in bfloat16
    yield f"{device}\n"
    yield "| work | PyTorch | jaxseg | ratio | MFU | peak MiB, PyTorch and jaxseg |"
    yield "|---|---|---|---|---|---|"
    for part, title in PARTS.items():
        text = texts.get(part, "")
        found = sides(text)
        if len(found) < 2:
            yield f"| {title} | - | - | - | - | - |"
            continue
        (theirs, their_peak), (ours, our_peak) = found["PyTorch"], found["jaxseg"]
        flops = counted if part == "step_bfloat16_compiled" else flops_of(text)
        peak, share = peak_of(device, "bfloat16" in part), "-"
        if flops and peak and part.startswith("step"):
            share = f"{flops / (ours / 1e3) / peak:.0%}"
        yield (
            f"| {title} | {theirs:,.1f} ms | {ours:,.1f} ms | {theirs / ours:.2f}x | {share} "
            f"| {their_peak:,.0f}, {our_peak:,.0f} |"
        )
    last = texts.get("sweep", "").strip().splitlines()[-1:]
    ratio = last[0] if last and last[0].endswith("x") else "-"
    yield f"| sweep by vmap against separate runs, steps of members a second | | | {ratio} | | |"


if __name__ == "__main__":
    print("\n".join(rows(Path(sys.argv[1]))))
