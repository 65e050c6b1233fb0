"""What the check needs of a machine: nothing here may import it."""

import importlib.util

# What is imported, and why: the network; the ids; text to ids; weights on disk; settings and their ranges; and the
# rows to validate on, which are JSON lines in zstd as in every corpus.
NEEDED = ("torch", "numpy", "sentencepiece", "safetensors", "pydantic", "orjson", "zstandard")


def complaint() -> str:
    """A sentence that names what is missing here and how to get it; empty where nothing is."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return (
        f"this machine lacks {', '.join(missing)}: python -m pip install {' '.join(missing)}, or carry their wheels "
        "along and put the folder that they are unpacked into on PYTHONPATH"
    )
