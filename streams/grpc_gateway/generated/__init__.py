"""Made by `python -m streams.grpc_gateway.generate` from `frames.proto`; not edited by hand."""
