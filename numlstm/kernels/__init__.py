"""The compiled code, and what its callers share with it: `plan`, `packing`, `addresses`."""
