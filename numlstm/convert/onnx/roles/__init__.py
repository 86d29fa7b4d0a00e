"""What the inputs of a graph are: columns of a row, states, or given."""
