"""This machine: what its CPU has, and machine code as memory, files and functions. No Numba."""
