"""Checkpoint files of all model families: the hub, tensors, quantisation, adapters."""
