"""What a servable model is: its files, its manifest, its hashes. Imports neither torch nor onnx."""

from model.bundle.manifest import Bundle, BundleError, copy_bundle, write_bundle

__all__ = ["Bundle", "BundleError", "copy_bundle", "write_bundle"]
