"""The pipeline's steps: one folder per step, whose component.py is the Kubeflow face of one library call."""

from model import environment as environment  # before any library is loaded
