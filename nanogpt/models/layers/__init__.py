"""Parts that several architectures share, with the fast forms that torch lacks on a CPU; each is equal to torch's."""
