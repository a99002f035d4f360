"""The Look screen: what a model does with a prompt."""
