"""Verdicts on a candidate release: samples of both arms are folded into a small state, which is judged after each batch."""

from processors.rollout.folding import State, begin, fold
from processors.rollout.judging import Compared, Judgement, Verdict, judge, measures, verdict
from processors.rollout.plan import Limit, Plan
from processors.rollout.samples import MEASURES, Arm, Measure, Sample

__all__ = [
    "MEASURES",
    "Arm",
    "Compared",
    "Judgement",
    "Limit",
    "Measure",
    "Plan",
    "Sample",
    "State",
    "Verdict",
    "begin",
    "fold",
    "judge",
    "measures",
    "verdict",
]
