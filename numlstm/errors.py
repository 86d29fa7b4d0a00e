"""What numlstm raises of its own."""


class WeightsError(ValueError):
    """A file, a conversion or a set of tensors that cannot become a model."""
