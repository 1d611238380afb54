"""The predictor: the KServe V2 protocol over an ONNX bundle, with an inference log."""
