"""VoxCPM2's networks."""
