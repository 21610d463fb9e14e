"""Asks the models, once. Reads vision.assessments, writes vision.inferences; `derive` acts next."""
