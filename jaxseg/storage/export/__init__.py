"""Trained networks as files that need no jaxseg: compiled by JAX, or as ONNX graphs."""
