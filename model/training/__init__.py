"""Training: corpus and tokenizer in, checkpoint and curves out. Reading a checkpoint needs no torch."""
