"""The image that every step runs in, and the decorator that says so.

Lightweight components with the project's own image and no package installs are the one style of component that runs
the same in sub-processes, in containers and on a cluster. The image is chosen when the pipeline is compiled:

    PROMETHEUS_IMAGE=registry.example/pipeline:abc123 make pipeline-compile
"""

import functools
import os

from kfp import dsl

IMAGE = os.environ.get("PROMETHEUS_IMAGE", "ghcr.io/prometheus-mini/pipeline:0.1.0")

component = functools.partial(dsl.component, base_image=IMAGE, install_kfp_package=False)
