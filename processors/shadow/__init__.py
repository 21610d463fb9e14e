"""A release on trial reads beside the one in force. Reads vision.inferences, writes vision.candidates; `rollout` acts next."""
