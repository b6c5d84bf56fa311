"""Training on a GPU that has JAX and no TensorFlow: the same XLA program, another runtime.

With TensorFlow, in this order: programs, bundles, write_bundle; pack. On the GPU's machine:
run_bundle/, which is carried alone, and run_pytorch.
"""
