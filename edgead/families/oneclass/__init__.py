"""One class: networks that learned to tell good pictures from made-up or real defects (FCDD, HistoryAD)."""
