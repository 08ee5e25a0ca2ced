"""The engine: what a method is, its update, and what runs it on devices and processes."""
