"""Releasing: one pointer is moved to a published version, watched, and moved back when the version is no good.

The pointer is the storageUri of an InferenceService on a cluster, and the link STORE/live on one machine.
"""

from model import environment as environment  # before any library is loaded
