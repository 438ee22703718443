"""Audio files and devices: reading, cleaning, writing, encoding, playback."""
