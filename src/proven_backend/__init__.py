"""Reads the pack, runs code under grade, and proves every rule that the skills print."""
