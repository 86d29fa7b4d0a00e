"""The operators of ONNX, of what depends on the input, as layers; `nodes` has the table of them."""
