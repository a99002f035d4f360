"""What architectures are built of where torch's own parts are slow on a CPU. Each gives what torch's gives."""
