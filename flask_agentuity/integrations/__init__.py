"""Optional adapters to other libraries, one module each."""
