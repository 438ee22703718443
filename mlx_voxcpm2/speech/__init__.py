"""Speech of a request: options, prompts, batches, generation, results."""
