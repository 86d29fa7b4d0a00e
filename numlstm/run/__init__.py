"""A causal network at work: compiled, its states, and who takes steps with them."""
