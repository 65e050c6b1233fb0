"""The image that every step runs in, and the decorator that says so.

Lightweight components with the project's own image and no package installs are the one style of component that runs
the same in sub-processes, in containers and on a cluster. A run in sub-processes needs no image; elsewhere it is named
by the environment:

    PROMETHEUS_IMAGE=registry.example/prometheus-mini/pipeline:abc123 make pipeline-compile PROFILE=small
"""

import functools
import os

from kfp import dsl

UNSET = "prometheus-mini/pipeline:unset"  # what stands in a definition that no cluster is to run
IMAGE = os.environ.get("PROMETHEUS_IMAGE") or UNSET

component = functools.partial(dsl.component, base_image=IMAGE, install_kfp_package=False)
