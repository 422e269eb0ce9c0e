"""What the simulated Azure OpenAI promises."""
