"""Folders of a trained run that other software reads: transformers, sentence-transformers and ONNX Runtime."""
