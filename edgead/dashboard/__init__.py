"""`edgead dashboard`: pages for the line, in a process of its own that reads what stations tell and record (docs/dashboard.md).

    stations -> live.py (datagrams) and tail.py (records.db) -> hub.py -> app.py (the API) -> browsers

Nothing here runs in a station's process.
"""
