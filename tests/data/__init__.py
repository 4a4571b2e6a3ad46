"""A package, which tells its test_mnist from that of the demos."""
