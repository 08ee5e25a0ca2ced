"""Training methods, one file each, chosen by name; `make(networks, **settings) -> Method`."""
