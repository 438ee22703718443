"""The networks: arrays in, arrays out; no files, no clocks, no printing, noise passed in.

Letters in shapes: B batch, T positions, P patch length, D latent channels, H hidden size,
L any length, C channels.
"""
