"""The command line, `jaxseg COMMAND` and `python launch.py`; --help imports nothing slow."""
