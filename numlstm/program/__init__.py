"""network -> flat arrays that the kernels run."""
