"""The commands, one module a group; each has `register(commands)`."""
