"""Parts that architectures share, with implementations for a CPU that are faster than torch's and equal to them."""
