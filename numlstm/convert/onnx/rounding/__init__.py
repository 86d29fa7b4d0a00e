"""Graphs that round, in half precision or with integers, as graphs in float32."""
