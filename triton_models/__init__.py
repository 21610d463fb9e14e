"""The model repository: the steps of the reference ensemble, how they are configured, and the server that runs them.

Owns what a step computes (`steps`), the tensors that flow between steps and the Triton configurations made from them
(`wiring`, `configuration`), the repository on disk (`repository`, `weights`), the same ensemble run in this process
(`in_process`) and the recipe that starts the server (`server`).

Guarantees: a model version's folder holds everything that decides its answer, and is named by one digest (`digest`);
the server and this process run the same files, so that they give the same bits.

Next: `topology` starts the server and calls `build_repository`; `processors.infer` calls the ensemble.
"""
