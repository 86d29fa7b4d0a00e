"""What a network is: its layers, their tensors, and how they read each other. No arithmetic."""
