"""The pipeline's definition, its profiles, and what runs them: `python -m pipelines.run --help`."""
