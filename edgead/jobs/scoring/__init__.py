"""Judging an archive: sources list pictures, a ledger keeps what is done, pools of workers judge, the job puts it together."""
