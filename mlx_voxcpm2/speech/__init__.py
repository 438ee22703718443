"""From a request to speech: options, prompts, batches, generation, results."""
