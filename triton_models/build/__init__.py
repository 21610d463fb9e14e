"""Builders of what the GPU variants of the model repository need, and the check of what they gain.

Owns the TensorRT plan of a network (`tensorrt_plan`), the DALI preprocessing serialised for Triton's DALI backend
(`dali_model`), the facts and memory of a GPU (`cuda_device`), and the check that measures detection as ONNX and as
TensorRT side by side (`engines`, `measuring`, `check_gpu`, `report`).

Guarantees: importing any module here needs neither a GPU nor TensorRT; what is missing is named by a
`ConfigurationError` when it is first needed. Nothing else in Hindsight imports this package.

Next: the files go into a model version's folder, and a server started with `--model-config-name=gpu` reads them.
"""
