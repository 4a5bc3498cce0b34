"""The user interfaces: `draw`, the commands, the gallery. Only they print and write files."""
