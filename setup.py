"""Puts the experiments in configs/ into an installed package, as jaxseg/configs.

All else is in pyproject.toml, which has no way to say so beside finding packages.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["jaxseg*"]), "jaxseg.configs"],
    package_dir={"jaxseg.configs": "configs"},
)
