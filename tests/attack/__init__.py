"""Files and moments chosen to break things; the long form is benchmarks/attack.py."""
