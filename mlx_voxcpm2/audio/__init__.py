"""Sound in files and devices: reading, cleaning, writing, encoding, playback."""
