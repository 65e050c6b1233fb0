"""What only a machine with a GPU can tell: speed, agreement with the CPU, resuming, a process group, precision.

Every part runs in a process of its own, within a time of its own: one that fails, or hangs, takes no other with it.
"""
