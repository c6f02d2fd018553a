"""SavedModel, LiteRT, ONNX and OpenVINO files, and the folding of normalisations."""
