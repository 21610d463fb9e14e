"""How a release on trial does beside the one in force. Reads vision.inferences and vision.candidates, writes the numbers to
vision.monitoring and its verdicts to vision.commands, where `release` decides what follows.

`shadow` reads frames a second time; `sampling` gathers numbers of both sides; `judge` folds them and says what they show.
"""
