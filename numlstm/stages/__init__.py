"""A network that reads later steps: causal networks, and what joins their rows."""
