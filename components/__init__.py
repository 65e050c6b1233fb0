"""The pipeline's steps: one folder per step, whose component.py is the Kubeflow face of one library call."""
