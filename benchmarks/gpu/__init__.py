"""Training on a GPU that has JAX and no TensorFlow: the same XLA program, another runtime."""
