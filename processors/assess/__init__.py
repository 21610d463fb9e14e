"""Is this a frame that can be read? Reads vision.frames, writes vision.assessments; `infer` acts next."""
