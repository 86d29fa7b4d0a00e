"""Stores that outlive a process, one in each file."""
