"""Benchmarks of numlstm: ``python -m bench --help``."""
