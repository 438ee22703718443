"""Fine-tuning: a manifest of clips -> latents -> sequences -> losses -> an adapter or a model."""
