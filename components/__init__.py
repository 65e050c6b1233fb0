"""The pipeline's steps: one folder per step, whose component.py is the Kubeflow face of one library call."""

import model.processors  # noqa: F401  # settles the threads of libraries before the first of them is imported
