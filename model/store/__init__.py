"""The model store: every run's bundle under an address of its own, which is never written twice.

    STORE/RUN_ID/bundle/               bundle.json and its files, as a server loads them
    STORE/RUN_ID/summary.json ...      what else a run tells (RESULTS)
    STORE/live                         a link to the run that is served; folders only

STORE is a folder, an address that fsspec knows (``s3://bucket/prefix``), or ``pvc://claim/prefix``: a volume of a
cluster, which lies at /mnt/pvc/CLAIM where a step has it mounted.

A version is there whole or not at all, whoever else publishes at the same time. In a folder, one rename decides. In an
object store the first to create ``STORE/RUN_ID/.claim``, which holds the hash of its manifest, may write; then the
files go up, and the manifest last. Only what has a manifest counts as published.
"""

from model.store.places import (
    RESULTS,
    StoreError,
    address,
    probe,
    read_result,
    split,
    write_result,
)
from model.store.pointer import go_live_back, history, live, set_live
from model.store.publishing import publish
from model.store.versions import Version, prune, version, versions

__all__ = [
    "RESULTS",
    "StoreError",
    "Version",
    "address",
    "go_live_back",
    "history",
    "live",
    "probe",
    "prune",
    "publish",
    "read_result",
    "set_live",
    "split",
    "version",
    "versions",
    "write_result",
]
