"""The real server under load, from outside: what it costs, and whether it fails, leaks, or loses a call."""
