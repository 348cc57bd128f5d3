"""What a turn costs: this package and what people use instead, side by side."""
