"""The Health screen: what each layer does while it learns."""
