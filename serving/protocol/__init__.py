"""The Open Inference Protocol (V2): messages, rows and tensors."""
