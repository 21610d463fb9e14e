"""What each step of the reference ensemble computes, as plain Python over arrays.

Owns one module per step (`dali_preprocess`, `detection`, `crop_and_resize`, `classifier`, `recognizer`,
`postprocess`), what they agree on (`contract`), how a step is run and reported (`run`), its digest (`digest`) and the
onnxruntime session that three of them share (`onnx_session`).

Guarantees: nothing here imports anything of ours from outside this folder, because `repository` copies the modules
that a step needs into its model version's folder: what is copied is what runs, in the server and in this process, and
the digest covers it. Nothing here knows that Triton exists.

Next: `triton_models/model.py` runs a step inside Triton, `in_process` runs all of them here.
"""
