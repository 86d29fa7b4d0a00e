"""Converters: a source -> `Weights`. Foreign names and orders are translated here and only here."""
