"""What forked processes have imported: the engine with torch, and the app. It starts no thread and computes nothing."""

from importlib import import_module

from nanogpt.hardware import peak

for _name in ("pytest", "nanogpt.cli.prepare", "nanogpt.cli.train", "nanogpt.cli.sample", "nanogpt.runs.launch"):
    import_module(_name)
for _name in ("nanogpt.training.loop", "nanogpt.sampling.generation", "nanogpt_tui.app"):
    import_module(_name)
for _name in ("torch._dynamo", "torch.distributed.fsdp"):  # what several processes of a training need
    import_module(_name)
for _name in ("nanogpt.data.corpus.worker", "nanogpt.tokenizers.bpe", "pyarrow.parquet", "tokenizers"):
    import_module(_name)
peak.MEASURE_S = 0.0  # as in the tests' own process
