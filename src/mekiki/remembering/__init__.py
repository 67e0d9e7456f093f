"""Remembering: what a run looked at becomes cases, which are found again as people judged them."""

from mekiki.remembering.remembering import remember
from mekiki.remembering.room import SPACES, Room, Settings
from mekiki.remembering.searching import (
    Recollection,
    case_stats,
    export_run,
    feedback_of,
    forget,
    give_feedback,
    import_run,
    search,
    undo_feedback,
)
from mekiki.remembering.teaching import spaces_judged, train, untrain
from mekiki.remembering.tuning import Tuning, tune, untune
from mekiki.remembering.views import JudgeView, RunView, TextView, view_of

__all__ = [
    "SPACES",
    "JudgeView",
    "Recollection",
    "Room",
    "RunView",
    "Settings",
    "TextView",
    "Tuning",
    "case_stats",
    "export_run",
    "feedback_of",
    "forget",
    "give_feedback",
    "import_run",
    "remember",
    "search",
    "spaces_judged",
    "train",
    "tune",
    "undo_feedback",
    "untrain",
    "untune",
    "view_of",
]
