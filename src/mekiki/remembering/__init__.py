"""Remembering: what a run looked at becomes cases, which are found again as people judged them."""

from mekiki.remembering.picking import Change, Picked, changes_of, relabel, remember_picked, undo_relabel
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
    say_in_room,
    search,
    search_room,
    undo_feedback,
)
from mekiki.remembering.teaching import spaces_judged, train, untrain
from mekiki.remembering.tuning import Tuning, tune, untune
from mekiki.remembering.views import JudgeView, RunView, TextView, view_of

__all__ = [
    "SPACES",
    "Change",
    "JudgeView",
    "Picked",
    "Recollection",
    "Room",
    "RunView",
    "Settings",
    "TextView",
    "Tuning",
    "case_stats",
    "changes_of",
    "export_run",
    "feedback_of",
    "forget",
    "give_feedback",
    "import_run",
    "relabel",
    "remember",
    "remember_picked",
    "say_in_room",
    "search",
    "search_room",
    "spaces_judged",
    "train",
    "tune",
    "undo_feedback",
    "undo_relabel",
    "untrain",
    "untune",
    "view_of",
]
