"""Estimates of the memory and the compile time of a transformer from its shape. Imports no torch."""

CHUNK_ROWS, CHUNK_LOGITS = 1024, 1 << 22  # as in `cross_entropy.py`
QUERY_BLOCK = 128  # queries whose attention weights are computed at once on a CPU

# torch.compile on a CPU, in nanoseconds of one core for each token. It saves time for each logit, because the
# cross-entropy takes fewer passes. It loses time for each channel of each layer, because the implementations for a CPU
# in this package are faster than what it generates, above all with dropout. Measured by `benchmarks/auto_choices.py`.
LOGIT_NS = {"float32": 1.7, "bfloat16": 0.2, "float16": 0.2}
BLOCK_NS = {"float32": 6.0, "bfloat16": 45.0, "float16": 45.0}
DROPOUT_NS = 150.0
# Compile time in seconds with an empty cache: the training step and the first evaluation, whose layers are unrolled.
COMPILE_S = 2.0
COMPILE_LAYER_S = 5.0


def activation_bytes(
    *,
    n_layer: int,
    n_head: int,
    n_embd: int,
    mlp_numbers: int,
    vocab_size: int,
    block_size: int,
    batch_size: int,
    chunked_head: bool,
    dropout: float,
    dtype: str,
    device: str,
) -> int:
    """Return an estimate of the bytes that a micro-batch keeps for its backward pass, at their maximum.

    For each token a block keeps its input, two normalised inputs, q, k, v, the result of attention twice, the residual
    between attention and MLP, and `mlp_numbers` in the MLP: 8·C + mlp_numbers, some of them in 16 bits under autocast.
    On a CPU it also keeps its attention weights: n_head·T, for long windows about half of them. Dropout adds a byte for
    each number that it may zero: 2·C in a block, and the attention weights on a CPU. The head keeps two rows of V for
    each token; with `chunked_head`, on a CPU, it keeps one row for only `CHUNK_ROWS` tokens, and the gradient of its
    weights.
    """
    half = dtype != "float32"
    block = (20 if half else 32) * n_embd + (2 if half else 4) * mlp_numbers
    attended = n_head * (block_size + min(block_size, QUERY_BLOCK)) // 2 if device == "cpu" else 0
    block += (2 if half else 4) * attended
    if dropout:
        block += 2 * n_embd + attended
    transient = 32 * n_embd  # gradients of the activations of one block
    tokens = batch_size * block_size
    if device == "cpu" and chunked_head:
        number, summed = (2 if half else 4), (4 if tokens > CHUNK_ROWS else 0)
        head = number * vocab_size * min(tokens, CHUNK_ROWS)
        head += 4 * min(tokens * vocab_size, CHUNK_LOGITS) + (number + summed) * vocab_size * n_embd
    else:
        head = tokens * (10 if half else 8) * vocab_size
    return tokens * (n_layer * block + transient + 8 * n_embd) + head


def compile_estimate(*, n_layer: int, n_embd: int, vocab_size: int, dropout: float, dtype: str) -> tuple[float, float]:
    """Return what torch.compile saves on a CPU (ns of one core for each token), and its compile time (s)."""
    lost = n_layer * n_embd * (BLOCK_NS[dtype] + (DROPOUT_NS if dropout else 0.0))
    return vocab_size * LOGIT_NS[dtype] - lost, COMPILE_S + n_layer * COMPILE_LAYER_S
