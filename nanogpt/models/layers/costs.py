"""What a transformer costs in memory and in compiling, from its shape alone. Imports no torch."""

AT_ONCE, NUMBERS = 1024, 1 << 22  # as in `cross_entropy.py`

# torch.compile on a CPU: what it saves for each token, in nanoseconds of one core, for each logit (the cross-entropy
# is done in fewer passes). What it loses, for each channel of each layer: blocks are written out for a CPU, which is
# faster than what it makes of them, and far more so with dropout. `benchmarks/auto_choices.py` measures them again.
LOGIT_NS = {"float32": 1.7, "bfloat16": 0.2, "float16": 0.2}
BLOCK_NS = {"float32": 6.0, "bfloat16": 45.0, "float16": 45.0}
DROPOUT_NS = 150.0
# What it costs once, in seconds, with an empty cache: the training step and the first evaluation, which are unrolled.
COMPILE_S = 2.0
COMPILE_LAYER_S = 5.0


def activation_bytes(
    *,
    n_layer: int,
    n_head: int,
    n_embd: int,
    vocab_size: int,
    block_size: int,
    batch_size: int,
    dropout: float,
    dtype: str,
    device: str,
) -> int:
    """Return the bytes that a micro-batch keeps for its backward pass, at the fullest moment (an estimate).

    A block keeps for each token: its input, two normalised inputs, q, k, v, the attention's result twice, the residual
    between, the MLP's 4·C before and after its activation: 16·C numbers, some of them in 16 bits under autocast (36·C
    bytes). On a CPU it also keeps its n_head·T attention weights. Dropout adds a byte for each number that it may zero:
    two of a block's C, and on a CPU the attention weights. The head keeps two rows of V for each token; on a CPU one
    for `AT_ONCE` of them alone, and the gradient of its weights.
    """
    half = dtype != "float32"
    block = (36 if half else 64) * n_embd
    attended = n_head * block_size if device == "cpu" else 0
    block += (2 if half else 4) * attended
    if dropout:
        block += 2 * n_embd + attended
    in_passing = 32 * n_embd  # gradients of one block's activations
    tokens = batch_size * block_size
    if device == "cpu":
        number, summed = (2 if half else 4), (4 if tokens > AT_ONCE else 0)
        head = number * vocab_size * min(tokens, AT_ONCE)
        head += 4 * min(tokens * vocab_size, NUMBERS) + (number + summed) * vocab_size * n_embd
    else:
        head = tokens * (10 if half else 8) * vocab_size
    return tokens * (n_layer * block + in_passing + 8 * n_embd) + head


def compile_estimate(*, n_layer: int, n_embd: int, vocab_size: int, dropout: float, dtype: str) -> tuple[float, float]:
    """Return what torch.compile saves on a CPU, in nanoseconds of one core a token, and what it costs once, in s."""
    lost = n_layer * n_embd * (BLOCK_NS[dtype] + (DROPOUT_NS if dropout else 0.0))
    return vocab_size * LOGIT_NS[dtype] - lost, COMPILE_S + n_layer * COMPILE_LAYER_S
