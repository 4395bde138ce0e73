"""multi-MNIST: binarised handwritten digits."""
