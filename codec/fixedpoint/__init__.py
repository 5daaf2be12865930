"""The decoder as an integer program: entropy model, upsampling, temporal layers, synthesis."""
