"""`make bench-serving`: our engine beside the engines that a user would pick instead, in one interleaved run."""
