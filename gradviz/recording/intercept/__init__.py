"""Calls of torch's functions as the program makes them, and what each one means."""
