"""jaxseg: unsupervised domain adaptation for semantic segmentation, in pure JAX."""

__version__ = "0.1.0"
