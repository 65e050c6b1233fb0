"""Text on its way into a model, the same for corpus, evaluation and serving: pure functions of strings, no torch."""
