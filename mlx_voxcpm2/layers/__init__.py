"""Building blocks that all model families share: arrays in, arrays out."""
