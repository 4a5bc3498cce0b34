"""What a user meets: `draw`, the command line, the gallery. Only here is anything written."""
