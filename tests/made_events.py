"""Events of a training that never was, for tests of what records and shows them."""

from nanogpt.events import Started, Step


def started(step: int = 0, max_iters: int = 1000) -> Started:
    return Started(
        run="r",
        step=step,
        max_iters=max_iters,
        n_parameters=1,
        tokens_per_iteration=8,
        train_tokens=100,
        val_tokens=10,
        vocab_size=5,
        device="cpu",
        dtype="float32",
        compile=False,
        threads=1,
        peak_flops=None,
        choices={},
    )


def stepped(step: int, loss: float = 1.0) -> Step:
    return Step(
        step=step,
        loss=loss,
        learning_rate=1e-3,
        grad_norm=0.5,
        tokens=8 * step,
        tokens_per_second=100.0,
        mfu=None,
        memory_bytes=1,
        elapsed_s=float(step),
        eta_s=1.0,
    )
