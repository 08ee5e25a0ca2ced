"""From a config to objects. Nothing below this room reads a config."""
