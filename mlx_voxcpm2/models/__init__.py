"""The networks, one folder per family: arrays in, arrays out.

No files, no clocks, no printing; noise and caches are passed in. Letters in shapes: B batch,
T positions, P patch length, D latent channels, H hidden size, L any length, C channels.
"""
