"""Converters: a source -> `Weights`. Foreign names and orders are translated here and only here.

torch, keras, onnx   each reads its own sources
assembly             what all three stand on: networks grow out of drafts, the rest is refused
gates                the gate orders of every framework, there and back; public
probes               random inputs, to be answered by the framework that a network is from
"""
