"""Names that other programs use (OpenBMB's voxcpm, mlx-audio, mlx-lm), and what each is here."""
