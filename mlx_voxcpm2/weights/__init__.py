"""Checkpoint files: the hub, layouts, quantization, adapters."""
